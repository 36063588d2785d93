import { useHealth } from "../../api/me";
import { useOverview } from "../../api/overview";
import { Faces } from "../../components/faces";
import { StatusIcon } from "../../components/Status";
import { sentence, tMaybe, useT } from "../../i18n/i18n";
import { useSession } from "../../session";

const STATUS: Record<string, "up" | "degraded" | "down"> = {
  ok: "up",
  warning: "degraded",
  critical: "down",
};

/** AboutTab shows this server and the health of its parts, level by level. */
export function AboutTab() {
  const { t } = useT();
  const { server } = useSession();
  const query = useHealth();
  const overview = useOverview().data;
  const levels = Object.entries(query.data?.levels ?? {}).map(([level, v]) => ({
    level,
    parts: (v.parts ?? []).map((p) => ({
      name: p.name,
      status: p.status,
      message: p.message ?? p.reason ?? "",
    })),
  }));
  const parts = overview?.health.parts ?? [];
  const shown = levels.some((l) => l.parts.length)
    ? levels
    : [...new Set(parts.map((p) => p.level))].map((level) => ({
        level,
        parts: parts.filter((p) => p.level === level),
      }));
  return (
    <div className="stack">
      <section className="card" aria-label={t("settings.about")}>
        <dl className="facts-list">
          <dt>{t("about.server")}</dt>
          <dd>{server.name}</dd>
          <dt>{t("about.version")}</dt>
          <dd>{server.version}</dd>
          <dt>{t("about.node")}</dt>
          <dd>
            <code>{server.node}</code>
          </dd>
          <dt>{t("about.api")}</dt>
          <dd>
            <a href="v1/openapi.json" target="_blank" rel="noreferrer">
              OpenAPI
            </a>
          </dd>
        </dl>
      </section>
      <Faces query={query} rows={4}>
        {shown.map((l) => (
          <section key={l.level} className="card" aria-label={l.level}>
            <h2>
              {l.level} {tMaybe(`about.${l.level}`)}
            </h2>
            <ul className="parts">
              {l.parts.map((p) => (
                <li key={p.name}>
                  <StatusIcon status={STATUS[p.status] ?? "unknown"} />
                  <b>{tMaybe(`health.part.${p.name}`) ?? p.name}</b>
                  <span className="sr">{tMaybe(`health.${p.status}`) ?? p.status}</span>
                  <span className="muted">{sentence(p.message)}</span>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </Faces>
    </div>
  );
}
