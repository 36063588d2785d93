import type { ClusterInfo, Node } from "../src/api/cluster";

/** node is a server that is well, with what a test changes. */
export function node(name: string, more: Partial<Node> = {}): Node {
  return {
    id: `ID-${name}`,
    name,
    role: "server",
    region: "eu",
    labels: {},
    version: "1.2.0",
    addresses: { cluster: `10.0.0.${name.slice(-1)}:9701`, http: `http://10.0.0.${name.slice(-1)}:9700` },
    state: "alive",
    since: "2026-11-20T08:00:00Z",
    started: "2026-11-20T08:00:00Z",
    joined: "2026-11-01T08:00:00Z",
    self: false,
    revoked: false,
    draining: false,
    control: "voter",
    load: 0.12,
    lag_seconds: 0,
    behind: false,
    skew_seconds: 0.003,
    health: { status: "ok", score: 100 },
    views: {},
    relay: [],
    copy: {
      copying: false,
      source: "",
      done: 0,
      total: 0,
      complete: true,
      last_check: null,
      mismatches: 0,
      repaired: 0,
    },
    checks: 12,
    ...more,
  };
}

/** cluster is three servers that see one another. */
export const cluster = (): [Node, Node, Node] => [
  node("n1", { self: true, control: "leader", views: { n2: "alive", n3: "alive" } }),
  node("n2", { region: "us", views: { n1: "alive", n3: "alive" } }),
  node("n3", { region: "asia", views: { n1: "alive", n2: "alive" } }),
];

export const info = (more: Partial<ClusterInfo> = {}): ClusterInfo => ({
  id: "C",
  self: "n1",
  leader: "n1",
  writable: true,
  reason: "",
  quorum: 2,
  voters: 3,
  split: false,
  advice: [],
  ...more,
});
