import { Button } from "@mantine/core";
import { lazy, Suspense, useState } from "react";
import { Link } from "wouter";
import { useCluster, useNodes, type ClusterInfo, type Node, type NodeRole } from "../../api/cluster";
import { Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { StatusIcon } from "../../components/Status";
import { sentence, tMaybe, useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { Authority } from "./Authority";
import { Compare } from "./Compare";
import { Matrix } from "./Matrix";
import { NodeCard } from "./NodeCard";
import { Marks, NodePill } from "./NodeState";
import { Tokens } from "./Tokens";
import { members } from "./view";

const AddNode = lazy(() => import("./AddNode"));

export default function ServersPage() {
  const { t } = useT();
  const admin = useCan("admin");
  const nodes = useNodes();
  const cluster = useCluster();
  const [add, setAdd] = useState<NodeRole | "">("");
  const list = nodes.data ?? [];
  return (
    <Page
      title={t("nav.servers")}
      actions={
        admin && (
          <Button leftSection={<Icon name="plus" size={16} />} onClick={() => setAdd("server")}>
            {t("servers.add")}
          </Button>
        )
      }
    >
      <Faces query={nodes} rows={3} height={150}>
        <Board nodes={list} cluster={cluster.data} onAdd={admin ? setAdd : undefined} />
      </Faces>
      {add && (
        <Suspense fallback={null}>
          <AddNode nodes={list} start={add} onClose={() => setAdd("")} />
        </Suspense>
      )}
    </Page>
  );
}

interface BoardProps {
  nodes: Node[];
  cluster: ClusterInfo | undefined;
  onAdd: ((role: NodeRole) => void) | undefined;
}

function Board({ nodes, cluster, onAdd }: BoardProps) {
  const { t } = useT();
  const servers = members(nodes);
  const agents = nodes.filter((n) => n.role === "agent" && !n.revoked);
  const gone = nodes.filter((n) => n.revoked);
  return (
    <div className="stack">
      {cluster && <Quorum c={cluster} alone={servers.length === 1} />}
      <ul className="cards nodes" aria-label={t("nav.servers")}>
        {servers.map((n) => (
          <NodeCard key={n.id} n={n} />
        ))}
      </ul>
      {servers.length === 1 ? <Alone onAdd={onAdd} /> : <Matrix nodes={nodes} />}
      {agents.length > 0 && <Agents agents={agents} />}
      {onAdd && (
        <>
          <Tokens nodes={nodes} />
          <div className="cards">
            <Authority />
            {servers.length > 1 && <Compare />}
          </div>
        </>
      )}
      {gone.length > 0 && (
        <details className="card">
          <summary>{t("servers.gone", { n: gone.length })}</summary>
          <ul className="lines">
            {gone.map((n) => (
              <li key={n.id}>
                <Link href={`/servers/${encodeURIComponent(n.id)}`}>{n.name}</Link>
                <code className="break muted">{n.id}</code>
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

/** Quorum says whether configuration can be changed, by whom, and what would be wise. */
function Quorum({ c, alone }: { c: ClusterInfo; alone: boolean }) {
  const { t } = useT();
  return (
    <section className="card quorum" aria-label={t("servers.quorum")}>
      <p className="row">
        <StatusIcon status={c.writable ? "up" : "down"} size={18} />
        <span>
          {c.writable
            ? alone
              ? t("servers.writable.alone")
              : t("servers.writable", { leader: c.leader || "–", n: c.voters, quorum: c.quorum })
            : t("servers.readonly", { reason: sentence(c.reason ?? "") })}
        </span>
      </p>
      {(c.advice ?? []).map((a) => (
        <p key={a.code} className="row muted">
          <Icon name="info" size={16} />
          <span>{tMaybe(`advice.${a.code}`) ?? sentence(a.message)}</span>
        </p>
      ))}
    </section>
  );
}

/** Alone tells whoever has one server what more of them bring. */
function Alone({ onAdd }: { onAdd: BoardProps["onAdd"] }) {
  const { t } = useT();
  return (
    <section className="card alone" aria-labelledby="sv-alone">
      <h2 id="sv-alone">{t("servers.alone.title")}</h2>
      <ul>
        {(["die", "places", "change", "cut"] as const).map((k) => (
          <li key={k}>
            <StatusIcon status="up" />
            <span>{t(`servers.alone.${k}`)}</span>
          </li>
        ))}
      </ul>
      <p className="muted">{t("servers.alone.how")}</p>
      {onAdd && (
        <div className="actions start">
          <Button onClick={() => onAdd("server")}>{t("servers.add.server.button")}</Button>
          <Button variant="default" onClick={() => onAdd("witness")}>
            {t("servers.add.witness.button")}
          </Button>
        </div>
      )}
    </section>
  );
}

function Agents({ agents }: { agents: Node[] }) {
  const { t } = useT();
  return (
    <section className="card" aria-labelledby="sv-agents">
      <h2 id="sv-agents">
        {t("servers.agents")} <span className="tally">{agents.length}</span>
      </h2>
      <ul className="lines">
        {agents.map((n) => (
          <li key={n.id}>
            <div className="record-main">
              <NodePill state={n.state} />
              <Link href={`/hosts/${encodeURIComponent(n.id)}`}>{n.name}</Link>
              <Marks n={n} />
              <small className="muted">
                {n.region} {n.version}
              </small>
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}
