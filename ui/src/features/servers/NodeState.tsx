import type { Node, NodeState } from "../../api/cluster";
import { StatusIcon } from "../../components/Status";
import { useT } from "../../i18n/i18n";
import { face } from "./view";

/** NodePill is a node's state by sign, colour and word. */
export function NodePill({ state }: { state: NodeState }) {
  const { t } = useT();
  return (
    <span className={`pill pill-${face(state)}`}>
      <StatusIcon status={face(state)} size={14} />
      {t(`servers.state.${state}`)}
    </span>
  );
}

/** Marks are what is special about a node, beside its state. */
export function Marks({ n }: { n: Node }) {
  const { t } = useT();
  return (
    <>
      {n.self && <span className="type">{t("servers.self")}</span>}
      {n.draining && <span className="pill pill-maintenance">{t("servers.draining")}</span>}
      {n.revoked && <span className="pill pill-paused">{t("servers.removed")}</span>}
      {n.behind && <span className="pill pill-degraded">{t("servers.behind")}</span>}
    </>
  );
}
