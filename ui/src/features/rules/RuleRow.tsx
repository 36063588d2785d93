import { useId, useState } from "react";
import { Link } from "wouter";
import type { Rule } from "../../api/rules";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { SeverityPill } from "../../components/Status";
import { ago, dateTime, num, seconds, span, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { sharedLabels } from "../../lib/trial";
import { RuleMark } from "./RuleMark";
import { annotationsOf, exploreHref, ruleState } from "./view";

const MOST_ALERTS = 50;
const link = /^https?:\/\/\S+$/;

/** RuleRow is one rule; opened it tells everything about it. */
export function RuleRow({ rule: r }: { rule: Rule }) {
  const { t } = useT();
  const id = useId();
  const [open, setOpen] = useState(false);
  const alerts = r.alerts ?? [];
  return (
    <li className="rule-row">
      <button
        type="button"
        className="fold rule-head"
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
      >
        <RuleMark state={ruleState(r)} short />
        <span className="rule-name">{r.name}</span>
        {alerts.length > 0 && <span className="tally">{t("rules.alerts", { n: alerts.length })}</span>}
        {r.labels?.severity && <SeverityPill severity={r.labels.severity} />}
        <code className="rule-expr">{r.expr}</code>
      </button>
      {r.error && !open && <p className="rule-error">{sentence(r.error)}</p>}
      <div id={id} hidden={!open}>
        {open && <RuleDetails rule={r} />}
      </div>
    </li>
  );
}

function RuleDetails({ rule: r }: { rule: Rule }) {
  const { t } = useT();
  const now = useNow();
  const notes = annotationsOf(r.annotations);
  return (
    <div className="rule-details">
      {r.error && (
        <p className="stale" role="status">
          {sentence(r.error)}
        </p>
      )}
      {/* A long expression scrolls, and by keyboard too. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0}>{r.expr}</pre>
      <p className="facts">
        <Link href={exploreHref(r.expr)} className="row">
          <Icon name="explore" size={15} />
          {t("check.explore")}
        </Link>
        {r.for && r.for !== "0s" && <span>{t("rules.for", { span: r.for })}</span>}
        {r.keep_firing_for && r.keep_firing_for !== "0s" && (
          <span>{t("rules.keep", { span: r.keep_firing_for })}</span>
        )}
        <span className="muted" title={r.evaluated ? dateTime(r.evaluated) : ""}>
          {r.evaluated
            ? t("rules.evaluated", { ago: ago(r.evaluated, now), took: seconds(r.took_seconds) })
            : t("rules.never")}
        </span>
      </p>
      <Labels labels={r.labels} />
      {notes.length > 0 && (
        <dl className="facts-list notes">
          {notes.map(([k, v]) => (
            <div key={k}>
              <dt>{noteName(k, t)}</dt>
              <dd>
                {link.test(v) ? (
                  <a href={v} target="_blank" rel="noreferrer noopener">
                    {v} <Icon name="external" size={13} />
                  </a>
                ) : (
                  v
                )}
              </dd>
            </div>
          ))}
        </dl>
      )}
      {r.type === "alerting" && <ActiveAlerts rule={r} />}
    </div>
  );
}

const NOTES = {
  summary: "rules.summary",
  description: "rules.description",
  runbook: "rules.runbook",
  runbook_url: "rules.runbook",
} as const;
const noteName = (k: string, t: ReturnType<typeof useT>["t"]) =>
  k in NOTES ? t(NOTES[k as keyof typeof NOTES]) : k;

function ActiveAlerts({ rule: r }: { rule: Rule }) {
  const { t } = useT();
  const now = useNow();
  const alerts = r.alerts ?? [];
  if (!alerts.length) return <p className="muted">{t("rules.noalerts")}</p>;
  const shared = Object.keys(sharedLabels(alerts.map((a) => a.labels)));
  return (
    // A wide table scrolls, and by keyboard too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="scroll-x" role="region" aria-label={t("rules.active")} tabIndex={0}>
      <table className="plain">
        <thead>
          <tr>
            <th scope="col">{t("rules.state")}</th>
            <th scope="col">{t("rules.labels")}</th>
            <th scope="col">{t("rules.since")}</th>
            <th scope="col" className="num">
              {t("explore.value")}
            </th>
          </tr>
        </thead>
        <tbody>
          {alerts.slice(0, MOST_ALERTS).map((a, i) => (
            <tr key={i}>
              <td className="nowrap">
                <RuleMark state={a.state === "firing" ? "firing" : "pending"} />
              </td>
              <td>
                <Labels labels={a.labels} skip={alerts.length > 1 ? shared : ["alertname", "severity"]} />
              </td>
              <td className="nowrap" title={dateTime(a.active_at)}>
                {span((now - Date.parse(a.active_at)) / 1000)}
              </td>
              <td className="num mono">{value(a.value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {alerts.length > MOST_ALERTS && (
        <p className="muted">{t("rules.morealerts", { n: alerts.length - MOST_ALERTS })}</p>
      )}
    </div>
  );
}

const value = (v: string) => (Number.isFinite(Number(v)) ? num(Number(v), 4) : v);
