import { Button } from "@mantine/core";
import { useState, type ReactNode } from "react";
import { useParams } from "wouter";
import { useLabelNode, useNodes, type Node } from "../../api/cluster";
import { useEvents } from "../../api/events";
import type { Json } from "../../api/types";
import { Dialog } from "../../components/Dialog";
import { EventList } from "../../components/EventList";
import { Failure, Faces } from "../../components/faces";
import { MapInput } from "../../components/FieldInput";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { Page } from "../../components/Page";
import { StatusIcon } from "../../components/Status";
import { ago, dateTime, num, seconds, span, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { NotFound } from "../shell/NotFound";
import { NodeActions } from "./actions";
import { CopyProgress } from "./NodeCard";
import { Marks, NodePill } from "./NodeState";
import { face, size } from "./view";

const ADDRESSES = ["http", "cluster", "gossip", "peer", "client"] as const;

/** ServerPage is everything about one server, witness or agent. */
export default function ServerPage() {
  const { t } = useT();
  const { id } = useParams<{ id: string }>();
  const query = useNodes();
  const list = query.data;
  const n = list?.find((x) => x.id === id) ?? list?.find((x) => x.name === id && !x.revoked);
  if (list && !n) return <NotFound />;
  return (
    <Page
      title={n?.name ?? t("nav.servers")}
      back={{ href: "/servers", label: t("nav.servers") }}
      {...(n
        ? {
            heading: (
              <>
                {n.name} <span className="type">{t(`servers.role.${n.role}`)}</span>
              </>
            ),
            actions: <NodeActions n={n} />,
          }
        : {})}
    >
      <Faces query={query} rows={4} height={140}>
        {n && <Detail n={n} />}
      </Faces>
    </Page>
  );
}

function Detail({ n }: { n: Node }) {
  const events = useEvents({ subject: `node/${n.id}` }, 15);
  const list = events.data?.pages.flatMap((p) => p.items ?? []) ?? [];
  const { t } = useT();
  return (
    <div className="detail">
      <Head n={n} />
      <div className="cards">
        <Facts n={n} />
        {n.role !== "agent" && <Sees n={n} />}
      </div>
      {n.role === "server" && <Relay n={n} />}
      <section className="card" aria-labelledby="sv-events">
        <h2 id="sv-events">{t("nav.events")}</h2>
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

function Head({ n }: { n: Node }) {
  const { t } = useT();
  const now = useNow();
  return (
    <section className={`card state state-${face(n.state)}`} aria-label={t("checks.status")}>
      <StatusIcon status={face(n.state)} size={40} />
      <div>
        <p className="state-word" data-testid="node-state">
          <b>{t(`servers.state.${n.state}`)}</b>
          {n.since && (
            <span title={dateTime(n.since)}>
              {" "}
              {t("check.for", { span: span((now - Date.parse(n.since)) / 1000) })}
            </span>
          )}{" "}
          <Marks n={n} />
        </p>
        <p>{t(`servers.state.${n.state}.help`)}</p>
        {n.copy?.copying && <CopyProgress n={n} />}
      </div>
    </section>
  );
}

function Facts({ n }: { n: Node }) {
  const { t } = useT();
  const now = useNow();
  const admin = useCan("admin");
  const [edit, setEdit] = useState(false);
  const when = (v: string | undefined) => (v ? <span title={dateTime(v)}>{ago(v, now)}</span> : "–");
  const c = n.copy;
  const rows: [string, ReactNode][] = [
    [
      t("servers.health"),
      n.health
        ? t("servers.score", { n: n.health.score, word: t(`health.${n.health.status}`) })
        : t("servers.noanswer"),
    ],
    [t("checks.region"), n.region || "–"],
    [t("servers.control"), t(`servers.control.${n.control}`)],
    [t("about.version"), n.version || "–"],
    [t("servers.started"), when(n.started)],
    [t("servers.joined"), when(n.joined)],
    [t("servers.checks"), n.health ? num(n.checks) : "–"],
    [t("servers.load"), n.state === "alive" ? `${num(n.load * 100, 0)} %` : "–"],
    [t("servers.lag"), n.lag_seconds > 0 ? seconds(n.lag_seconds) : t("servers.lag.none")],
    [t("servers.skew"), seconds(Math.abs(n.skew_seconds))],
    ...(c
      ? ([
          [
            t("servers.copies"),
            t(
              c.copying
                ? "servers.copies.copying"
                : c.complete
                  ? "servers.copies.whole"
                  : "servers.copies.partial",
            ),
          ],
          [
            t("servers.compared"),
            c.last_check
              ? t("servers.compared.at", {
                  time: ago(c.last_check, now),
                  n: c.mismatches,
                  repaired: c.repaired,
                })
              : t("servers.compared.never"),
          ],
        ] as [string, ReactNode][])
      : []),
    ...ADDRESSES.filter((a) => n.addresses?.[a]).map((a): [string, ReactNode] => [
      t(`servers.address.${a}`),
      <code key={a} className="break">
        {n.addresses?.[a]}
      </code>,
    ]),
    [
      t("servers.id"),
      <code key="id" className="break">
        {n.id}
      </code>,
    ],
  ];
  return (
    <section className="card" aria-labelledby="sv-facts">
      <h2 id="sv-facts">{t("servers.facts")}</h2>
      <dl className="facts-list">
        {rows.map(([k, v]) => (
          <div key={k}>
            <dt>{k}</dt>
            <dd>{v}</dd>
          </div>
        ))}
        <div>
          <dt>{t("editor.labels")}</dt>
          <dd>
            <Labels labels={n.labels} />
            {!Object.keys(n.labels ?? {}).length && "–"}{" "}
            {admin && !n.revoked && (
              <button
                type="button"
                className="icon-button"
                aria-label={t("servers.labels.edit")}
                onClick={() => setEdit(true)}
              >
                <Icon name="edit" size={15} />
              </button>
            )}
          </dd>
        </div>
      </dl>
      {edit && <LabelsDialog n={n} onClose={() => setEdit(false)} />}
    </section>
  );
}

function LabelsDialog({ n, onClose }: { n: Node; onClose: () => void }) {
  const { t } = useT();
  const save = useLabelNode();
  const [labels, setLabels] = useState<Json | undefined>(n.labels ?? {});
  return (
    <Dialog title={t("servers.labels.edit")} onClose={onClose}>
      <form
        className="stack"
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate({ id: n.id, labels: (labels ?? {}) as Record<string, string> }, { onSuccess: onClose });
        }}
      >
        {save.isError && <Failure compact error={save.error} />}
        <MapInput label={t("editor.labels")} value={labels} onChange={setLabels} />
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" loading={save.isPending}>
            {t("common.save")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Sees({ n }: { n: Node }) {
  const { t } = useT();
  const views = Object.entries(n.views ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return (
    <section className="card" aria-labelledby="sv-sees">
      <h2 id="sv-sees">{t("servers.sees", { name: n.name })}</h2>
      {views.length ? (
        <ul className="lines">
          {views.map(([name, state]) => (
            <li key={name}>
              <b>{name}</b>
              <NodePill state={state} />
            </li>
          ))}
        </ul>
      ) : (
        <p className="muted">{t(n.health ? "servers.sees.none" : "servers.noanswer")}</p>
      )}
    </section>
  );
}

function Relay({ n }: { n: Node }) {
  const { t } = useT();
  const now = useNow();
  const list = n.relay ?? [];
  return (
    <section className="card" aria-labelledby="sv-relay">
      <h2 id="sv-relay">{t("servers.relay")}</h2>
      <p className="muted">{t("servers.relay.intro")}</p>
      {list.length ? (
        // A table that is wider than a phone scrolls, and by keyboard too.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className="scroll-x" role="group" aria-labelledby="sv-relay" tabIndex={0}>
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">{t("servers.relay.to")}</th>
                <th scope="col" className="num">
                  {t("servers.backlog")}
                </th>
                <th scope="col">{t("servers.relay.oldest")}</th>
                <th scope="col">{t("checks.status")}</th>
              </tr>
            </thead>
            <tbody>
              {list.map((r) => (
                <tr key={r.to}>
                  <th scope="row">{r.to}</th>
                  <td className="num">{size(r.bytes)}</td>
                  <td className="nowrap">{r.oldest ? ago(r.oldest, now) : "–"}</td>
                  <td>
                    <span className="row">
                      <StatusIcon status={r.dropped ? "down" : r.connected ? "up" : "degraded"} size={14} />
                      {r.connected ? t("servers.relay.connected") : t("servers.relay.away")}
                    </span>
                    {r.dropped && <small className="muted">{t("servers.relay.dropped")}</small>}
                    {!r.connected && r.error && <small className="muted break">{sentence(r.error)}</small>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <p className="muted">{t(n.health ? "servers.relay.none" : "servers.noanswer")}</p>
      )}
    </section>
  );
}
