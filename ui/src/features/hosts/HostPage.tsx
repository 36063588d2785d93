import { Button } from "@mantine/core";
import { useEffect, useMemo, useState, type ReactNode } from "react";
import { Link, useLocation, useParams } from "wouter";
import { useAlerts } from "../../api/alerts";
import { useEvents } from "../../api/events";
import { useHost, useRemoveHost, type HostDetail } from "../../api/hosts";
import { rangeQuery } from "../../api/prom";
import { confirm } from "../../components/confirm";
import { EventList } from "../../components/EventList";
import { Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Page } from "../../components/Page";
import { RangePicker } from "../../components/RangePicker";
import { SeverityPill, StatusIcon } from "../../components/Status";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { alertText } from "../../i18n/errors";
import { ago, dateTime, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { equal, promString } from "../../lib/matchers";
import { parseDuration } from "../../lib/time";
import { useCan } from "../../session";
import "../../styles/hosts.css";
import { useFacts, usePresence } from "./facts";
import { Feed } from "./feed";
import { HostHead } from "./HostHead";
import { HostPill } from "./HostPill";
import { useLiveMode, useVisible, type LiveMode } from "./live";
import { PanelCard } from "./PanelCard";
import { here, SECTIONS, type SectionName } from "./panels";
import { Processes } from "./Processes";
import { isLive, type Window } from "./series";
import { Services } from "./Services";
import { Containers, FileSystems, MeshTable, Storage, TimeSync } from "./tables";
import { Units } from "./Units";

/** HostPage is everything about one host. */
export default function HostPage() {
  const { t } = useT();
  const { id } = useParams<{ id: string }>();
  const query = useHost(decodeURIComponent(id));
  const h = query.data;
  return (
    <Page
      title={h?.name ?? t("nav.hosts")}
      back={{ href: "/hosts", label: t("nav.hosts") }}
      {...(h
        ? {
            heading: (
              <>
                {h.name} <HostPill status={h.status} />
              </>
            ),
            actions: <Actions h={h} />,
          }
        : {})}
    >
      <Faces query={query} rows={4} height={140}>
        {h && <Detail key={h.id} h={h} />}
      </Faces>
    </Page>
  );
}

function Actions({ h }: { h: HostDetail }) {
  const { t } = useT();
  const [, go] = useLocation();
  const editor = useCan("editor");
  const admin = useCan("admin");
  const remove = useRemoveHost();
  const drop = async () => {
    const yes = await confirm({
      title: t("servers.remove.title", { name: h.name }),
      text: t("hosts.remove.text"),
      action: t("servers.remove"),
    });
    if (!yes) return;
    remove.mutate(
      { id: h.id, force: h.status === "online" },
      {
        onSuccess: () => {
          toast(t("hosts.bulk.removed", { n: 1 }));
          go("/hosts");
        },
        onError: toastError,
      },
    );
  };
  return (
    <>
      {editor && (
        <Button
          variant="default"
          leftSection={<Icon name="mute" size={16} />}
          onClick={() => go(`/silences?new=1&m=${encodeURIComponent(equal("host", h.name))}`)}
        >
          {t("alerts.silence")}
        </Button>
      )}
      {admin && (
        <Button
          variant="default"
          className="danger"
          loading={remove.isPending}
          leftSection={<Icon name="trash" size={16} />}
          onClick={() => void drop()}
        >
          {t("servers.remove")}
        </Button>
      )}
    </>
  );
}

/** clock is the servers' time in Unix seconds. */
const clock = (skew: number) => () => Date.now() / 1000 + skew;

const RANGES = ["5m", "15m", "1h", "6h", "24h", "7d", "30d"];

/** windowOf reads the span of time out of the address; a host that fell silent is shown as it was before. */
export function windowOf(
  p: URLSearchParams,
  h: Pick<HostDetail, "status" | "last_seen">,
  now: number,
): { range: string; window: Window; before: boolean } {
  const asked = p.get("range") ?? "";
  const range = RANGES.includes(asked) ? asked : "15m";
  const from = Number(p.get("from"));
  const to = Number(p.get("to"));
  if (from > 0 && to > from) return { range: "", window: { length: to - from, end: to }, before: false };
  const length = (parseDuration(range) ?? 900_000) / 1000;
  const seen = h.status !== "online" && h.last_seen ? Date.parse(h.last_seen) / 1000 : NaN;
  const before = seen < now - length / 2;
  return {
    range,
    window: { length, end: before ? Math.round(seen + length * 0.05) : null },
    before,
  };
}

function Detail({ h }: { h: HostDetail }) {
  const { t } = useT();
  const { params, set } = useUrl();
  const [opened] = useState(() => Date.now() / 1000);
  const [paused, setPaused] = useState(false);
  const visible = useVisible();
  const interval = Math.max(1, (parseDuration(h.settings?.interval ?? "") || 15_000) / 1000);
  const spec = windowOf(params, h, opened);
  const { length, end } = spec.window;
  const win = useMemo<Window>(() => ({ length, end }), [length, end]);
  const followed = end === null && visible && !paused;
  const live = useLiveMode(h.id, followed && isLive(win) && h.status === "online");
  const presence = usePresence(h.name, end);
  const skew = presence.data?.skew;
  const feed = useMemo(
    () =>
      skew === undefined
        ? null
        : new Feed(
            async (expr, span, signal) => {
              const { data } = await rangeQuery(expr, span, signal);
              return data.resultType === "matrix" ? data.result : [];
            },
            win,
            interval,
            clock(skew),
          ),
    [win, interval, skew],
  );
  useEffect(() => feed?.start(followed), [feed, followed]);
  const zoom = (from: number, to: number) =>
    set({ from: String(Math.floor(from)), to: String(Math.ceil(to)) }, true);
  const pick = (range: string) => set({ range, from: "", to: "" });
  const names = presence.data?.names;
  const panels = useMemo(() => (names ? here(names) : []), [names]);
  const facts = useFacts(
    "system",
    [
      ["os", `last_over_time(node_os_info{host=${promString(h.name)}}[1h])`],
      ["uname", `last_over_time(node_uname_info{host=${promString(h.name)}}[1h])`],
    ],
    end,
    false,
  );
  const os = facts.data?.get("os")?.[0]?.metric;
  const uname = facts.data?.get("uname")?.[0]?.metric;
  const extra: Partial<Record<SectionName, ReactNode>> = names
    ? {
        disk: (
          <>
            {names.has("node_filesystem_size_bytes") && <FileSystems h={h} at={end} interval={interval} />}
            {["smartctl_device_smart_status", "node_md_disks_required", "node_zfs_zpool_state"].some((n) =>
              names.has(n),
            ) && <Storage h={h} at={end} interval={interval} />}
          </>
        ),
        processes: h.status === "online" && (
          <Processes h={h} every={visible && !paused ? (isLive(win) ? 5000 : 15_000) : false} />
        ),
        services: (names.has("panoptes_service_up") || names.has("node_systemd_unit_state")) && (
          <>
            {names.has("panoptes_service_up") && <Services h={h} at={end} interval={interval} />}
            {names.has("node_systemd_unit_state") && <Units h={h} at={end} interval={interval} />}
          </>
        ),
        containers: names.has("container_cpu_usage_seconds_total") && (
          <Containers h={h} at={end} interval={interval} />
        ),
        mesh: names.has("panoptes_mesh_sent_total") && <MeshTable h={h} at={end} interval={interval} />,
        time: names.has("node_timex_sync_status") && <TimeSync h={h} at={end} interval={interval} />,
      }
    : {};
  const sections = SECTIONS.filter((s) => panels.some((p) => p.section === s) || extra[s]);
  useKeys({ " ": () => setPaused(!paused), v: () => pick("15m") });
  return (
    <div className="detail host">
      <HostHead
        h={h}
        system={os ? { name: os.pretty_name ?? os.name ?? "", kernel: uname?.release ?? "" } : undefined}
      />
      <Alerts h={h} />
      <div className="host-bar">
        <nav aria-label={t("hosts.sections")}>
          {sections.map((s) => (
            <a
              key={s}
              href={`#hs-${s}`}
              onClick={(e) => {
                e.preventDefault();
                document.getElementById(`hs-${s}`)?.scrollIntoView({ behavior: "smooth" });
              }}
            >
              {t(`hosts.s.${s}`)}
            </a>
          ))}
        </nav>
        {end !== null && !spec.before && (
          <button type="button" className="chip on" onClick={() => pick("")}>
            {dateTime((end - length) * 1000)} – {dateTime(end * 1000).slice(11)}
            <Icon name="close" size={12} />
          </button>
        )}
        <RangePicker value={spec.range} options={RANGES} onChange={pick} />
        {end === null && (
          <LiveMark
            mode={live}
            paused={paused}
            away={h.status !== "online"}
            fast={isLive(win)}
            onPause={() => setPaused(!paused)}
          />
        )}
      </div>
      {spec.before && (
        <p className="stale" role="status">
          {t("hosts.before", { time: dateTime(h.last_seen ?? "") })}
        </p>
      )}
      <Faces query={presence} rows={3} height={220}>
        {feed &&
          sections.map((s) => (
            <div key={s} className="host-section" id={`hs-${s}`}>
              <h2>{t(`hosts.s.${s}`)}</h2>
              <div className="panels">
                {panels
                  .filter((p) => p.section === s)
                  .map((p) => (
                    <PanelCard
                      key={p.id}
                      panel={p}
                      feed={feed}
                      host={h.name}
                      interval={interval}
                      window={win}
                      onZoom={zoom}
                      onReset={() => pick("")}
                    />
                  ))}
                {extra[s]}
              </div>
            </div>
          ))}
        {names && !panels.length && <p className="muted nodata card">{t("hosts.nodata")}</p>}
      </Faces>
      {h.checks && <Checks h={h} at={end} />}
      <Events h={h} />
    </div>
  );
}

/** LiveMark says whether the charts follow, and stops and starts them. */
function LiveMark({
  mode,
  paused,
  away,
  fast,
  onPause,
}: {
  mode: LiveMode;
  paused: boolean;
  away: boolean;
  fast: boolean;
  onPause: () => void;
}) {
  const { t } = useT();
  const word = paused
    ? "paused"
    : mode === "on"
      ? "on"
      : mode === "away" || away
        ? "away"
        : mode === "failed"
          ? "failed"
          : "slow";
  return (
    <span className={`live-mark is-${word}`}>
      <span role="status" title={t(fast ? "hosts.live.help" : "hosts.live.slow.help")}>
        <i aria-hidden="true" />
        {t(`hosts.live.${word}`)}
      </span>
      <button
        type="button"
        className="icon-button"
        aria-pressed={paused}
        aria-label={t(paused ? "hosts.live.resume" : "hosts.live.pause")}
        title={t(paused ? "hosts.live.resume" : "hosts.live.pause")}
        onClick={onPause}
      >
        <Icon name={paused ? "play" : "pause"} size={16} />
      </button>
    </span>
  );
}

function Alerts({ h }: { h: HostDetail }) {
  const { t } = useT();
  const now = useNow();
  const query = useAlerts([equal("host", h.name)]);
  const list = query.data?.items ?? [];
  if (!list.length) return null;
  return (
    <section className="card" aria-labelledby="h-alerts">
      <h2 id="h-alerts">
        {t("nav.alerts")} <span className="tally">{list.length}</span>
        <Link href={`/alerts?m=${encodeURIComponent(equal("host", h.name))}`} className="more">
          {t("common.more")} <Icon name="right" size={13} />
        </Link>
      </h2>
      <ul className="lines">
        {list.slice(0, 8).map((a) => (
          <li key={a.fingerprint}>
            <span className="row">
              <SeverityPill severity={a.labels.severity} />
              <b>{a.labels.alertname}</b>
              <span>{alertText(a)}</span>
            </span>
            <small className="muted nowrap" title={dateTime(a.starts_at)}>
              {ago(a.starts_at, now)}
            </small>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Checks are those that this host runs itself. */
function Checks({ h, at }: { h: HostDetail; at: number | null }) {
  const { t } = useT();
  const query = useFacts("checks", [["ok", `probe_success{prober=${promString(h.name)}}`]], at, 15_000);
  const list = [...(query.data?.get("ok") ?? [])].sort(
    (a, b) => a.value - b.value || (a.metric.check ?? "").localeCompare(b.metric.check ?? ""),
  );
  return (
    <section className="card" aria-labelledby="h-checks">
      <h2 id="h-checks">
        {t("hosts.checks")} <span className="tally">{list.length}</span>
      </h2>
      {list.length ? (
        <ul className="ports">
          {list.map((c) => (
            <li key={c.metric.check}>
              <span className="row">
                <StatusIcon status={c.value === 1 ? "up" : "down"} size={14} />
                <Link href={`/checks/${encodeURIComponent(c.metric.check ?? "")}`}>{c.metric.check}</Link>
              </span>
            </li>
          ))}
        </ul>
      ) : (
        <p className="muted">{t("hosts.checks.none")}</p>
      )}
    </section>
  );
}

function Events({ h }: { h: HostDetail }) {
  const { t } = useT();
  const events = useEvents({ subject: `node/${h.id}` }, 15);
  const list = events.data?.pages.flatMap((p) => p.items ?? []) ?? [];
  return (
    <section className="card" aria-labelledby="h-events">
      <h2 id="h-events">{t("nav.events")}</h2>
      <Faces query={events} rows={3}>
        {list.length ? <EventList events={list} /> : <p className="muted">{t("events.none")}</p>}
        {events.hasNextPage && (
          <button type="button" className="link" onClick={() => void events.fetchNextPage()}>
            {t("common.more")}
          </button>
        )}
      </Faces>
    </section>
  );
}
