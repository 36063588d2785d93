import { Link } from "wouter";
import { useNodes, type ClusterInfo } from "../../api/cluster";
import type { Me } from "../../api/types";
import { Icon } from "../../components/icons";
import { sentence, useT } from "../../i18n/i18n";
import { sides } from "../servers/view";

/** ClusterStrip says on every page that the cluster is cut, or nothing can be saved, and what still works. */
export function ClusterStrip({ me, cluster }: { me: Me; cluster: ClusterInfo | undefined }) {
  const { t } = useT();
  const split = cluster?.split === true;
  const nodes = useNodes(split).data;
  const away = nodes ? sides(nodes).there.map((n) => n.name) : [];
  const reason = sentence(cluster?.reason || me.writable_reason || "") || t("nav.readonly.reason");
  if (me.writable && !split) return null;
  if (!split)
    return (
      <div className="strip" role="status">
        <Icon name="lock" size={16} />
        {t("nav.readonly", { reason })}
      </div>
    );
  return (
    <div className={`strip split${me.writable ? "" : " bad"}`} role="alert" data-testid="split">
      <Icon name="split" size={18} />
      <div>
        <b>{away.length ? t("split.away", { n: away.length, names: away.join(", ") }) : t("split.some")}</b>{" "}
        {t(me.writable ? "split.majority" : "split.minority")} <Link href="/servers">{t("split.look")}</Link>
      </div>
    </div>
  );
}
