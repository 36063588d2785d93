import type { Check } from "../../api/types";
import { StatusIcon } from "../../components/Status";
import { dateTime, span, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";

/** StateCard says in words what the state is, since when, and how it was decided. */
export function StateCard({ c }: { c: Check }) {
  const { t } = useT();
  const now = useNow();
  const s = c.state;
  const status = s?.status ?? "pending";
  const regions = Object.values(s?.regions ?? {});
  const failing = regions.filter((r) => r.status === "down").length;
  const newest = Math.max(0, ...regions.map((r) => Date.parse(r.at) || 0));
  const target =
    c.target && /^https?:\/\//.test(c.target) ? (
      <a href={c.target} target="_blank" rel="noreferrer">
        {c.target}
      </a>
    ) : (
      c.target
    );
  return (
    <section className={`card state state-${status}`} aria-label={t("checks.status")}>
      <StatusIcon status={status} size={40} />
      <div>
        <p className="state-word" data-testid="state">
          <b>{t(`status.${status}`)}</b>
          {s && Date.parse(s.since) > 0 && (
            <span title={dateTime(s.since)}>
              {" "}
              {t("check.for", { span: span((now - Date.parse(s.since)) / 1000) })}
            </span>
          )}
        </p>
        {s?.message && <p>{sentence(s.message)}</p>}
        <p className="muted">
          {regions.length > 0 &&
            t("check.votes", {
              n: regions.length,
              failing,
              policy: c.policy ?? "majority",
              span: span((now - newest) / 1000),
            })}
        </p>
        <p className="muted facts">
          {target && <span className="break">{target}</span>}
          <span>{t("check.every", { interval: c.interval ?? "60s", timeout: c.timeout ?? "10s" })}</span>
          {c.description && <span>{c.description}</span>}
        </p>
      </div>
    </section>
  );
}
