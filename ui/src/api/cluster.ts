import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { del, get, post, request, seg } from "./client";
import type { JsonObject, Meta, Page } from "./types";

/** Servers, witnesses and agents, and what lets them join. */

export const NODE_STATES = ["alive", "suspect", "dead", "left", "unknown"] as const;
export type NodeState = (typeof NODE_STATES)[number];
export type NodeRole = "server" | "witness" | "agent";
export type ControlRole = "leader" | "voter" | "learner" | "client" | "none";

export interface RelayState {
  to: string;
  bytes: number;
  oldest: string | null;
  connected: boolean;
  dropped: boolean;
  error: string;
}
export interface CopyState {
  copying: boolean;
  source: string;
  done: number;
  total: number;
  complete: boolean;
  last_check: string | null;
  mismatches: number;
  repaired: number;
}
export interface Node {
  id: string;
  name: string;
  role: NodeRole;
  region: string;
  labels?: Record<string, string> | null;
  version: string;
  addresses?: Partial<Record<"cluster" | "gossip" | "peer" | "client" | "http", string>>;
  state: NodeState;
  since?: string;
  started?: string;
  joined?: string;
  self: boolean;
  revoked: boolean;
  draining: boolean;
  control: ControlRole;
  load: number;
  lag_seconds: number;
  behind: boolean;
  skew_seconds: number;
  checks_allowed?: boolean;
  checks_offered?: boolean;
  /** What only the node itself knows; missing when it has not answered. */
  health?: { status: "ok" | "warning" | "critical"; score: number } | null;
  views?: Record<string, NodeState> | null;
  relay?: RelayState[] | null;
  copy?: CopyState | null;
  checks: number;
}
export interface ClusterInfo {
  id: string;
  self: string;
  leader: string;
  writable: boolean;
  reason: string;
  quorum: number;
  voters: number;
  split: boolean;
  advice: { code: string; message: string }[] | null;
}
export interface Token {
  id: string;
  role: NodeRole;
  region: string;
  checks?: boolean;
  expires: string;
  uses: number;
  used: string[] | null;
  created_at: string;
  expired: boolean;
  token?: string;
}
export interface CAInfo {
  roots: { subject: string; not_after: string; key_hash: string; current: boolean }[];
  state: "stable" | "rotating";
  ready: boolean;
  /** Servers that have not followed yet. */
  waiting?: string[];
}
export interface CheckReport {
  windows: number;
  mismatches: number;
  repaired: number;
  seconds: number;
}

/** useCluster says whether changes can be saved; the stream tells when to ask again. */
export const useCluster = (enabled = true) =>
  useQuery({
    enabled,
    queryKey: ["cluster"],
    queryFn: ({ signal }) => get<ClusterInfo>("v1/cluster", {}, signal),
    refetchInterval: 30_000,
  });

export const useNodes = (enabled = true) =>
  useQuery({
    queryKey: ["nodes"],
    queryFn: async ({ signal }) => (await get<Page<Node>>("v1/nodes", {}, signal)).items ?? [],
    // Loads and backlogs change without an event.
    refetchInterval: 10_000,
    enabled,
  });

/** useNodeAction does something to one node; the list follows. */
export function useNodeAction() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { id: string; verb: "drain" | "promote" | "leader"; body?: object }) =>
      post<Node>(`v1/nodes/${seg(a.id)}/${a.verb}`, a.body),
    onSettled: () => qc.invalidateQueries({ queryKey: ["nodes"] }),
  });
}

export function useLabelNode() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { id: string; labels: JsonObject }) =>
      request<Node>("PATCH", `v1/nodes/${seg(a.id)}`, { body: { labels: a.labels } }),
    onSettled: () => qc.invalidateQueries({ queryKey: ["nodes"] }),
  });
}

export function useRemoveNode() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { id: string; force: boolean }) =>
      del(`v1/nodes/${seg(a.id)}${a.force ? "?force=true" : ""}`),
    onSettled: () => qc.invalidateQueries({ queryKey: ["nodes"] }),
  });
}

export const useTokens = (enabled: boolean) =>
  useQuery({
    queryKey: ["tokens"],
    queryFn: async ({ signal }) => (await get<Page<Token>>("v1/tokens", {}, signal)).items ?? [],
    enabled,
  });

export interface TokenSpec {
  role: NodeRole;
  region?: string;
  checks?: boolean;
  ttl?: string;
  uses?: number;
}
export function useCreateToken() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (spec: TokenSpec) => post<Token>("v1/tokens", spec),
    onSuccess: () => qc.invalidateQueries({ queryKey: ["tokens"] }),
  });
}
export function useRevokeToken() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => del(`v1/tokens/${seg(id)}`),
    onSettled: () => qc.invalidateQueries({ queryKey: ["tokens"] }),
  });
}

export const useCA = (enabled: boolean) =>
  useQuery({
    queryKey: ["ca"],
    queryFn: ({ signal }) => get<CAInfo>("v1/cluster/ca", {}, signal),
    enabled,
    refetchInterval: (q) => (q.state.data?.state === "rotating" ? 15_000 : false),
  });
export function useMoveCA() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (verb: "rotate" | "finish") => post<CAInfo>(`v1/cluster/ca/${verb}`),
    onSettled: () => qc.invalidateQueries({ queryKey: ["ca"] }),
  });
}

export function useCompare() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: () => post<CheckReport>("v1/cluster/check"),
    onSettled: () => qc.invalidateQueries({ queryKey: ["nodes"] }),
  });
}

/** A rule by which the servers watch themselves, with its defaults. */
export interface SelfRule {
  name: string;
  threshold?: number;
  unit?: string;
  min?: number;
  max?: number;
  for: string;
  severity: "info" | "warning" | "critical";
  level: string;
  title: Record<string, string>;
  runbook: Record<string, string>;
}
export interface RuleChange {
  disabled?: boolean;
  threshold?: number | string;
  for?: string;
  severity?: string;
}
export interface SelfSettings {
  rules?: Record<string, RuleChange>;
  dead_man?: { url?: string; interval?: string };
  canary?: { receiver?: string; interval?: string };
}
interface Setting extends Meta {
  value: SelfSettings;
}
const SELF = "self-monitoring";

export const useSelfRules = () =>
  useQuery({
    queryKey: ["selfrules"],
    queryFn: async ({ signal }) =>
      (await get<Page<SelfRule>>("v1/self-monitoring/rules", {}, signal)).items ?? [],
    staleTime: Infinity,
  });

/** useSelfSettings reads the setting out of the list: it may not exist yet. */
export const useSelfSettings = () =>
  useQuery({
    queryKey: ["settings", SELF],
    queryFn: async ({ signal }) => {
      const page = await get<Page<Setting>>("v1/settings", { limit: 500 }, signal);
      return page.items?.find((s) => s.name === SELF) ?? null;
    },
  });

export function useSaveSelf() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { revision: number | undefined; value: SelfSettings }) => {
      const body = { name: SELF, value: a.value };
      return a.revision === undefined
        ? post<Setting>("v1/settings", body)
        : request<Setting>("PUT", `v1/settings/${SELF}`, { body, ifMatch: a.revision });
    },
    onSuccess: () => qc.invalidateQueries({ queryKey: ["settings"] }),
  });
}
