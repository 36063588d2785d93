import { Button } from "@mantine/core";
import { useState } from "react";
import { useLocation, useParams } from "wouter";
import { useBars, useCheck, useDeleteChecks, usePatchChecks, useRunCheck, useUptime } from "../../api/checks";
import { useEvents } from "../../api/events";
import type { Check } from "../../api/types";
import { confirm } from "../../components/confirm";
import { EventList } from "../../components/EventList";
import { Failure, Faces } from "../../components/faces";
import { HeartbeatBar } from "../../components/HeartbeatBar";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Labels } from "../../components/Labels";
import { Page } from "../../components/Page";
import { RangePicker } from "../../components/RangePicker";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { dateTime } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { equal } from "../../lib/matchers";
import { useCan } from "../../session";
import { CheckCharts } from "./CheckCharts";
import { Regions } from "./Regions";
import { Results } from "./Results";
import { StateCard } from "./StateCard";
import { UptimeCards } from "./UptimeCards";

export default function DetailPage() {
  const { t } = useT();
  const { id } = useParams<{ id: string }>();
  const query = useCheck(id);
  const c = query.data;
  return (
    <Page
      title={c?.name ?? t("nav.checks")}
      back={{ href: "/checks", label: t("nav.checks") }}
      {...(c
        ? {
            heading: (
              <>
                {c.name} <span className="type">{c.type}</span>
              </>
            ),
            actions: <Actions c={c} />,
          }
        : {})}
    >
      <Faces query={query} rows={4} height={140}>
        {c && <Detail c={c} />}
      </Faces>
    </Page>
  );
}

function Actions({ c }: { c: Check }) {
  const { t } = useT();
  const [, go] = useLocation();
  const editor = useCan("editor");
  const patch = usePatchChecks();
  const remove = useDeleteChecks();
  const paused = c.paused === true;
  useKeys({ e: () => editor && go(`/checks/${c.id}/edit`) });
  if (!editor) return null;
  const drop = async () => {
    const yes = await confirm({
      title: t("check.delete.title", { name: c.name }),
      text: t("checks.delete.text"),
      action: t("common.delete"),
    });
    if (!yes) return;
    remove.mutate([c.id], {
      onSuccess: () => {
        toast(t("checks.deleted", { n: 1 }));
        go("/checks");
      },
      onError: toastError,
    });
  };
  return (
    <>
      <Button
        variant="default"
        leftSection={<Icon name="mute" size={16} />}
        onClick={() => go(`/silences?new=1&m=${encodeURIComponent(equal("check", c.name))}`)}
      >
        {t("alerts.silence")}
      </Button>
      <Button
        variant="default"
        loading={patch.isPending}
        leftSection={<Icon name={paused ? "play" : "pause"} size={16} />}
        onClick={() =>
          patch.mutate(
            { ids: [c.id], patch: { paused: !paused } },
            {
              onSuccess: () => toast(t(paused ? "checks.resumed" : "checks.paused", { n: 1 })),
              onError: toastError,
            },
          )
        }
      >
        {t(paused ? "checks.resume" : "checks.pause")}
      </Button>
      <Button
        variant="default"
        leftSection={<Icon name="copy" size={16} />}
        onClick={() => go(`/checks/new?from=${c.id}`)}
      >
        {t("check.clone")}
      </Button>
      <Button
        variant="default"
        className="danger"
        leftSection={<Icon name="trash" size={16} />}
        onClick={() => void drop()}
      >
        {t("common.delete")}
      </Button>
      <Button leftSection={<Icon name="edit" size={16} />} onClick={() => go(`/checks/${c.id}/edit`)}>
        {t("common.edit")}
      </Button>
    </>
  );
}

const RANGES = ["1h", "6h", "24h", "7d", "30d"];

function Detail({ c }: { c: Check }) {
  const { t } = useT();
  const { get, set } = useUrl();
  const range = RANGES.includes(get("range")) ? get("range") : "24h";
  const uptime = useUptime(c.id);
  const bars = useBars(c.id, range, 90);
  const beats = bars.data?.bars ?? [];
  const events = useEvents({ subject: `check/${c.id}` }, 15);
  const list = events.data?.pages.flatMap((p) => p.items ?? []) ?? [];
  return (
    <div className="detail">
      <StateCard c={c} />
      <div className="toolbar">
        <Labels labels={c.labels} />
        <RangePicker value={range} options={RANGES} onChange={(r) => set({ range: r })} />
      </div>
      <section className="card" aria-label={t("check.history")}>
        {bars.isError && !bars.data ? (
          <Failure compact error={bars.error} retry={() => void bars.refetch()} />
        ) : (
          <HeartbeatBar
            bars={beats}
            height={36}
            focusable
            uptime={uptime.data?.windows[range]?.uptime}
            when={(i) =>
              beats[i]
                ? t("bars.span", {
                    from: dateTime(beats[i].from, false),
                    to: dateTime(beats[i].to, false).slice(11),
                  })
                : ""
            }
          />
        )}
        <UptimeCards query={uptime} />
      </section>
      <Regions c={c} uptime={uptime.data} />
      <CheckCharts c={c} range={range} />
      <RunNow c={c} />
      <section className="card" aria-labelledby="ck-events">
        <h2 id="ck-events">{t("nav.events")}</h2>
        <Faces query={events} rows={3}>
          {list.length ? <EventList events={list} /> : <p className="muted">{t("events.none")}</p>}
          {events.hasNextPage && (
            <button type="button" className="link" onClick={() => void events.fetchNextPage()}>
              {t("common.more")}
            </button>
          )}
        </Faces>
      </section>
    </div>
  );
}

function RunNow({ c }: { c: Check }) {
  const { t } = useT();
  const editor = useCan("editor");
  const run = useRunCheck(c.id);
  const [at, setAt] = useState(0);
  return (
    <section className="card" aria-labelledby="ck-run">
      <h2 id="ck-run">
        {t("check.result")}
        {editor && (
          <Button
            size="xs"
            variant="default"
            loading={run.isPending}
            leftSection={<Icon name="play" size={14} />}
            onClick={() => run.mutate(undefined, { onSuccess: () => setAt(Date.now()) })}
          >
            {t("check.run")}
          </Button>
        )}
      </h2>
      <div aria-live="polite">
        {run.isError ? (
          <Failure compact error={run.error} />
        ) : run.data ? (
          <>
            <small className="muted">{dateTime(at)}</small>
            <Results results={run.data.results ?? []} />
          </>
        ) : (
          <p className="muted">{t("check.run.hint")}</p>
        )}
      </div>
    </section>
  );
}
