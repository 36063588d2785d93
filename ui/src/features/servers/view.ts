import type { Node, NodeState } from "../../api/cluster";
import type { Status } from "../../api/types";

/** How nodes are shown: pure functions over what the server answers. */

const FACES: Record<NodeState, Status> = {
  alive: "up",
  suspect: "degraded",
  dead: "down",
  left: "paused",
  unknown: "unknown",
};

/** face is the sign of a state. */
export const face = (s: NodeState | undefined): Status => FACES[s ?? "unknown"] ?? "unknown";

/** members are those that the matrix is about: servers and witnesses that belong to the cluster. */
export const members = (nodes: Node[]): Node[] => nodes.filter((n) => n.role !== "agent" && !n.revoked);

const together = (s: NodeState | undefined) => s === "alive" || s === "suspect";

/** seen is what one member thinks of another; undefined when it has not been heard. */
export function seen(from: Node, to: Node): NodeState | undefined {
  if (from.id === to.id) return "alive";
  // What this server thinks is also known when it does not say so itself.
  return from.views?.[to.name] ?? (from.self ? to.state : undefined);
}

/**
 * sides parts the members into those that are connected with this server, over
 * others too, and the rest. Members that were stopped on purpose count as
 * neither. Nobody here can tell whether the rest sees one another.
 */
export function sides(nodes: Node[]): { here: Node[]; there: Node[] } {
  const all = members(nodes).filter((n) => n.self || n.state !== "left");
  const here = new Set(all.filter((n) => n.self));
  for (let grown = true; grown;) {
    grown = false;
    for (const n of all) {
      if (here.has(n)) continue;
      if ([...here].some((h) => together(seen(h, n)) || together(seen(n, h)))) {
        here.add(n);
        grown = true;
      }
    }
  }
  return { here: all.filter((n) => here.has(n)), there: all.filter((n) => !here.has(n)) };
}

/** backlog is what a node still holds for others, in bytes. */
export const backlog = (n: Node): number => (n.relay ?? []).reduce((sum, r) => sum + r.bytes, 0);

/** size writes bytes: "2.5 MB". */
export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let v = bytes;
  let i = 0;
  while (v >= 1000 && i < units.length - 1) {
    v /= 1000;
    i++;
  }
  return `${v >= 100 || i === 0 ? Math.round(v) : Math.round(v * 10) / 10} ${units[i] ?? ""}`;
}

/** copied is how far a copy is, 0 to 1; undefined when nobody knows how much there is. */
export const copied = (n: Node): number | undefined =>
  n.copy && n.copy.total > 0 ? Math.min(1, n.copy.done / n.copy.total) : undefined;

/** quote protects a word for a POSIX shell where it needs that. */
export const quote = (s: string): string =>
  /^[\w.\-:/@+]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`;

export interface Join {
  role: Node["role"];
  token: string;
  region?: string;
  name?: string;
  bind?: string;
  checks?: boolean;
}

/** joinAddress is where a new machine finds the cluster. */
export function joinAddress(nodes: Node[], host: string): string {
  const able = nodes.filter((n) => n.role !== "agent" && n.state === "alive" && n.addresses?.cluster);
  return (able.find((n) => n.self) ?? able[0])?.addresses?.cluster ?? `${host}:9701`;
}

/** joinCommand is what to run on the machine that is to join. */
export function joinCommand(j: Join, address: string): string {
  const region = quote(j.region || "REGION");
  const tail = `--join ${quote(address)} --token ${j.token}`;
  if (j.role === "agent") return `panoptes-agent --region ${region} ${tail}${j.checks ? " --checks" : ""}`;
  return [
    "panoptes server",
    ...(j.role === "witness" ? ["--witness"] : []),
    `--node ${quote(j.name || "NAME")}`,
    `--region ${region}`,
    "--data-dir /var/lib/panoptes",
    `--bind ${quote(j.bind || "ADDRESS")}`,
    tail,
  ].join(" ");
}
