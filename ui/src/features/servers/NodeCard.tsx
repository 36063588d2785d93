import { Link } from "wouter";
import type { Node } from "../../api/cluster";
import { StatusIcon } from "../../components/Status";
import { num, span, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { Marks, NodePill } from "./NodeState";
import { backlog, copied, face, size } from "./view";

const HEALTH = { ok: "up", warning: "degraded", critical: "down" } as const;

/** NodeCard is a server at a glance. */
export function NodeCard({ n }: { n: Node }) {
  const { t } = useT();
  const now = useNow();
  const held = backlog(n);
  const away = n.state !== "alive" && n.since ? span((now - Date.parse(n.since)) / 1000) : "";
  return (
    <li className={`card state state-${face(n.state)} node-card`} data-node={n.name}>
      <h2>
        <Link href={`/servers/${encodeURIComponent(n.id)}`}>{n.name}</Link>
        <NodePill state={n.state} />
        <Marks n={n} />
      </h2>
      <p className="muted facts">
        <span>{n.region}</span>
        <span>{t(`servers.role.${n.role}`)}</span>
        <span>{t(`servers.control.${n.control}`)}</span>
        {n.version && <span>{n.version}</span>}
      </p>
      {away && (
        <p>
          {t("servers.since", { span: away })}{" "}
          <span className="muted">{t(`servers.state.${n.state}.help`)}</span>
        </p>
      )}
      {n.role === "server" && n.state === "alive" && (
        <dl className="node-facts">
          <div>
            <dt>{t("servers.health")}</dt>
            <dd>
              {n.health ? (
                <>
                  <StatusIcon status={HEALTH[n.health.status] ?? "unknown"} size={14} />
                  <span className="sr">{t(`health.${n.health.status}`)}</span> {n.health.score}
                </>
              ) : (
                "–"
              )}
            </dd>
          </div>
          <div>
            <dt>{t("servers.load")}</dt>
            <dd>{n.state === "alive" ? `${num(n.load * 100, 0)} %` : "–"}</dd>
          </div>
          <div>
            <dt>{t("servers.backlog")}</dt>
            <dd>{n.relay ? size(held) : "–"}</dd>
          </div>
          <div>
            <dt>{t("servers.checks")}</dt>
            <dd>{n.health ? num(n.checks) : "–"}</dd>
          </div>
        </dl>
      )}
      {n.copy?.copying && <CopyProgress n={n} />}
    </li>
  );
}

/** CopyProgress says how far a server is with what it missed. */
export function CopyProgress({ n }: { n: Node }) {
  const { t } = useT();
  const part = copied(n);
  const label = t("servers.copying", { source: n.copy?.source || "–" });
  return (
    <p className="copying">
      <span>{label}</span>
      <progress aria-label={label} max={1} {...(part === undefined ? {} : { value: part })} />
      {part !== undefined && <span>{num(part * 100, 0)} %</span>}
    </p>
  );
}
