import type { Firing, RuleTrial, Trial } from "../../api/rules";
import { Labels } from "../../components/Labels";
import { StatusIcon } from "../../components/Status";
import { dateTime, span } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { sharedLabels, summary, ticks, tracks, type Track } from "../../lib/trial";

const MOST_TRACKS = 12;
const MOST_TIMES = 100;

/** TrialView shows what a group would have done: per rule when it would have fired, and how often. */
export function TrialView({ name, trial: x }: { name: string; trial: Trial }) {
  const { t } = useT();
  return (
    <section className="card trial" aria-label={t("rules.trial.of", { name })}>
      <h2>
        {name}
        <small className="muted">
          {t("rules.trial.span", {
            from: dateTime(x.from, false),
            to: dateTime(x.to, false),
            n: x.evaluations,
            interval: x.interval,
          })}
        </small>
      </h2>
      {x.capped && <p className="stale">{t("rules.trial.capped", { note: x.note ?? "" })}</p>}
      <ul className="trial-rules">
        {(x.rules ?? []).map((r, i) => (
          <li key={i}>
            <RuleTrialView rule={r} from={x.from} to={x.to} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function RuleTrialView({ rule: r, from, to }: { rule: RuleTrial; from: string; to: string }) {
  const { t } = useT();
  const firings = r.firings ?? [];
  const failed = (r.errors ?? 0) > 0;
  const sum = summary(r, from, to);
  const rows = tracks(firings, from, to);
  const shared = Object.keys(sharedLabels(rows.map((x) => x.labels)));
  return (
    <>
      <p className="trial-head">
        {r.type === "alerting" && (
          <StatusIcon status={sum.firings ? "down" : failed ? "unknown" : "up"} size={15} />
        )}
        <b>{r.name}</b>{" "}
        {r.type === "recording" ? (
          <span className="muted">{t("rules.trial.recorded", { n: r.series, samples: r.samples })}</span>
        ) : sum.firings ? (
          <span>
            {t("rules.trial.fired", { n: sum.firings })} ·{" "}
            {t("rules.trial.total", {
              span: span(sum.seconds),
              series: t("rules.alerts", { n: sum.alerts }),
            })}
          </span>
        ) : failed ? null : (
          <span>{t(r.series ? "rules.trial.quiet" : "rules.trial.nothing")}</span>
        )}
        {r.pendings > 0 && <span className="muted">{t("rules.trial.pending", { n: r.pendings })}</span>}
      </p>
      {r.error && (
        <p className="stale">{t("rules.trial.errors", { n: r.errors ?? 1, error: sentence(r.error) })}</p>
      )}
      {rows.length > 0 && (
        <>
          <Timeline rows={rows} from={from} to={to} skip={shared} />
          <details>
            <summary>{t("rules.trial.times")}</summary>
            <Times firings={firings} skip={rows.length > 1 ? shared : ["alertname"]} to={to} />
          </details>
        </>
      )}
    </>
  );
}

/** Timeline draws one row for each alert; the table below tells the same in words. */
function Timeline({ rows, from, to, skip }: { rows: Track[]; from: string; to: string; skip: string[] }) {
  const { t } = useT();
  const marks = ticks(from, to);
  return (
    <div className="timeline">
      {rows.slice(0, MOST_TRACKS).map((r) => {
        const own = Object.entries(r.labels).filter(([k]) => !skip.includes(k));
        const title = own.map(([k, v]) => `${k}=${v}`).join(" ");
        return (
          <div key={r.key} className="timeline-row">
            {rows.length > 1 && (
              <span className="timeline-name mono" title={title}>
                {own.map(([, v]) => v).join(" · ") || "–"}
              </span>
            )}
            <svg
              width="100%"
              height="16"
              role="img"
              aria-label={t("rules.trial.row", { name: title, n: r.stretches.length, span: span(r.seconds) })}
            >
              <rect className="timeline-bg" width="100%" height="16" rx="3" />
              {marks.map((m) => (
                <line key={m.at} className="timeline-tick" x1={pct(m.x)} x2={pct(m.x)} y1="0" y2="16" />
              ))}
              {r.stretches.map((s, i) => (
                <rect
                  key={i}
                  className="timeline-fire"
                  x={pct(s.x)}
                  width={pct(Math.max(s.w, 0.003))}
                  y="2"
                  height="12"
                  rx="2"
                >
                  <title>
                    {t("rules.trial.stretch", {
                      from: dateTime(s.from),
                      to: s.open ? t("rules.trial.still") : dateTime(s.to),
                      span: span((s.to - s.from) / 1000),
                    })}
                  </title>
                </rect>
              ))}
            </svg>
          </div>
        );
      })}
      <div className="timeline-row" aria-hidden="true">
        {rows.length > 1 && <span className="timeline-name" />}
        <span className="timeline-axis">
          {marks.map((m) => (
            <small key={m.at} style={{ left: pct(m.x) }}>
              {m.day ? dateTime(m.at).slice(5, 10) : dateTime(m.at).slice(11, 16)}
            </small>
          ))}
        </span>
      </div>
      {rows.length > MOST_TRACKS && (
        <p className="muted">{t("rules.morealerts", { n: rows.length - MOST_TRACKS })}</p>
      )}
    </div>
  );
}

const pct = (share: number) => `${(share * 100).toFixed(3)}%`;

function Times({ firings, skip, to }: { firings: Firing[]; skip: string[]; to: string }) {
  const { t } = useT();
  return (
    // A wide table scrolls, and by keyboard too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="scroll-x trial-times" role="region" aria-label={t("rules.trial.times")} tabIndex={0}>
      <table className="plain">
        <thead>
          <tr>
            <th scope="col">{t("rules.trial.from")}</th>
            <th scope="col">{t("rules.trial.to")}</th>
            <th scope="col">{t("rules.trial.long")}</th>
            <th scope="col">{t("rules.labels")}</th>
          </tr>
        </thead>
        <tbody>
          {firings.slice(0, MOST_TIMES).map((f, i) => (
            <tr key={i}>
              <td className="nowrap">
                {f.earlier ? t("rules.trial.before", { time: dateTime(f.fired_at) }) : dateTime(f.fired_at)}
              </td>
              <td className="nowrap">{f.resolved_at ? dateTime(f.resolved_at) : t("rules.trial.still")}</td>
              <td className="nowrap">
                {span((Date.parse(f.resolved_at ?? to) - Date.parse(f.fired_at)) / 1000)}
              </td>
              <td>
                <Labels labels={f.labels} skip={skip} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {firings.length > MOST_TIMES && (
        <p className="muted">{t("rules.trial.more", { n: firings.length - MOST_TIMES })}</p>
      )}
    </div>
  );
}
