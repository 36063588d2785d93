import { Link } from "wouter";
import type { Health } from "../../api/types";
import { StatusIcon } from "../../components/Status";
import { sentence, tMaybe, useT } from "../../i18n/i18n";

const STATUS = { ok: "up", warning: "degraded", critical: "down" } as const;

/** HealthCard says how the monitoring itself is doing. */
export function HealthCard({ health }: { health: Health }) {
  const { t } = useT();
  const bad = (health.parts ?? []).filter((p) => p.status !== "ok");
  const r = 26;
  const round = 2 * Math.PI * r;
  return (
    <section className="card health-card" aria-labelledby="ov-health">
      <h2 id="ov-health">{t("health.title")}</h2>
      <Link href="/settings/about" className="health">
        <svg
          width="68"
          height="68"
          viewBox="0 0 68 68"
          role="img"
          aria-label={t("health.score", { n: health.score })}
        >
          <circle cx="34" cy="34" r={r} className="ring-bg" />
          <circle
            cx="34"
            cy="34"
            r={r}
            className={`ring ring-${STATUS[health.status] ?? "unknown"}`}
            strokeDasharray={`${(round * health.score) / 100} ${round}`}
            transform="rotate(-90 34 34)"
          />
          <text x="34" y="40" textAnchor="middle">
            {health.score}
          </text>
        </svg>
        <span>
          <b className="row">
            <StatusIcon status={STATUS[health.status] ?? "unknown"} />
            {t(`health.${health.status}`)}
          </b>
          {bad.length ? (
            bad.slice(0, 2).map((p) => (
              <small key={p.level + p.name} className="muted">
                {t("error.line", {
                  title: tMaybe(`health.part.${p.name}`) ?? p.name,
                  detail: sentence(p.message),
                })}
              </small>
            ))
          ) : (
            <small className="muted">{t("health.allok")}</small>
          )}
        </span>
      </Link>
    </section>
  );
}
