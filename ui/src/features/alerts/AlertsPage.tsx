import { Button, NativeSelect } from "@mantine/core";
import { useState } from "react";
import { Link } from "wouter";
import { useAlerts } from "../../api/alerts";
import type { Alert } from "../../api/types";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { MatcherInput } from "../../components/MatcherInput";
import { Page } from "../../components/Page";
import { SilenceForm } from "../../components/SilenceForm";
import { SeverityPill } from "../../components/Status";
import { useUrl } from "../../components/useParams";
import { ago, dateTime, useNow } from "../../i18n/format";
import { alertText } from "../../i18n/errors";
import { useT } from "../../i18n/i18n";
import { equal } from "../../lib/matchers";
import { useCan } from "../../session";
import { groupAlerts } from "./group";

const STATES = ["", "active", "suppressed"] as const;

export default function AlertsPage() {
  const { t } = useT();
  const { params, get, set } = useUrl();
  const matchers = params.getAll("m");
  const state = get("state");
  const by = get("by") || "alertname";
  const query = useAlerts(matchers);
  const all = query.data?.items ?? [];
  const shown = all.filter(
    (a) => !state || (state === "active" ? a.status === "active" : a.status !== "active"),
  );
  const [silence, setSilence] = useState<string[] | null>(null);
  const editor = useCan("editor");
  const names = [
    ...new Set(["alertname", "severity", "check", ...all.flatMap((a) => Object.keys(a.labels))]),
  ];
  const add = (name: string, value: string) =>
    set({ m: [...matchers.filter((m) => m !== equal(name, value)), equal(name, value)] });
  return (
    <Page title={t("nav.alerts")}>
      <div className="filters">
        <div className="filter-row">
          <MatcherInput filter label={t("alerts.filter")} value={matchers} onChange={(m) => set({ m })} />
          <NativeSelect
            aria-label={t("alerts.groupby")}
            value={by}
            onChange={(e) => set({ by: e.currentTarget.value })}
            data={names.map((n) => ({ value: n, label: t("alerts.by", { label: n }) }))}
          />
          <div className="segments" role="group" aria-label={t("alerts.state")}>
            {STATES.map((s) => (
              <button key={s} type="button" aria-pressed={state === s} onClick={() => set({ state: s })}>
                {t(s ? `alerts.${s}` : "filters.all")}
              </button>
            ))}
          </div>
        </div>
      </div>
      <Faces query={query} rows={5} height={72}>
        {shown.length ? (
          groupAlerts(shown, by).map((g) => (
            <section key={g.key} className="card alert-group" aria-label={g.key || by}>
              <h2>
                {g.key || t("alerts.without", { label: by })} <span className="tally">{g.alerts.length}</span>
                {g.alerts.length > 1 && <Labels labels={g.shared} skip={[by]} onPick={add} />}
                {editor && (
                  <Button
                    size="xs"
                    variant="default"
                    leftSection={<Icon name="mute" size={14} />}
                    onClick={() => setSilence(Object.entries(g.shared).map(([k, v]) => equal(k, v)))}
                  >
                    {t("alerts.silence")}
                  </Button>
                )}
              </h2>
              <ul className="alerts">
                {g.alerts.map((a) => (
                  <AlertRow
                    key={a.fingerprint}
                    a={a}
                    skip={g.alerts.length > 1 ? Object.keys(g.shared) : [by]}
                    onPick={add}
                    onSilence={editor && g.alerts.length > 1 ? setSilence : undefined}
                  />
                ))}
              </ul>
            </section>
          ))
        ) : (
          <Empty
            icon="bell"
            title={t(matchers.length || state ? "alerts.nomatch" : "alerts.none")}
            text={matchers.length || state ? "" : t("alerts.none.text")}
            action={
              (matchers.length > 0 || state) && (
                <Button variant="default" onClick={() => set({ m: [], state: "" })}>
                  {t("filters.clear")}
                </Button>
              )
            }
          />
        )}
      </Faces>
      {silence && <SilenceForm matchers={silence} onClose={() => setSilence(null)} />}
    </Page>
  );
}

interface RowProps {
  a: Alert;
  skip: string[];
  onPick: (name: string, value: string) => void;
  onSilence: ((matchers: string[]) => void) | undefined;
}

function AlertRow({ a, skip, onPick, onSilence }: RowProps) {
  const { t } = useT();
  const now = useNow();
  const check = a.labels.check_id ?? a.labels.check;
  const text = alertText(a);
  return (
    <li className={a.status === "active" ? "" : "quiet"}>
      <SeverityPill severity={a.labels.severity} />
      <div className="alert-body">
        <span className="alert-text">
          {check ? (
            <Link href={`/checks/${encodeURIComponent(check)}`}>{a.labels.check ?? a.labels.alertname}</Link>
          ) : (
            <b>{a.labels.alertname}</b>
          )}
          <span className="event-text">{text}</span>
        </span>
        <Labels labels={a.labels} skip={[...skip, "severity"]} onPick={onPick} />
      </div>
      <small className="muted nowrap" title={dateTime(a.starts_at)}>
        {a.silenced_by?.length ? (
          <Link href="/silences">{t("alerts.silenced")}</Link>
        ) : a.inhibited_by?.length ? (
          t("alerts.inhibited")
        ) : null}{" "}
        {ago(a.starts_at, now)}
      </small>
      {onSilence && (
        <button
          type="button"
          className="icon-button"
          aria-label={t("alerts.silence.one", { name: a.labels.check ?? a.labels.alertname ?? "" })}
          onClick={() => onSilence(Object.entries(a.labels).map(([k, v]) => equal(k, v)))}
        >
          <Icon name="mute" size={16} />
        </button>
      )}
    </li>
  );
}
