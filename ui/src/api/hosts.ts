import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { del, get, post, request, seg } from "./client";
import type { Json, Meta, Page } from "./types";

/** Machines with an agent: what is known of them, what they use, what can be done to them. */

export const HOST_STATUSES = ["online", "unknown", "down", "stopped"] as const;
export type HostStatus = (typeof HOST_STATUSES)[number];

export interface HostEvidence {
  region: string;
  prober: string;
  target: string;
  answers: boolean;
  message: string;
  at: string;
}
export interface Host {
  id: string;
  name: string;
  region: string;
  labels?: Record<string, string> | null;
  status: HostStatus;
  since: string;
  message?: string;
  code?: string;
  evidence?: HostEvidence[] | null;
  server?: string;
  last_seen?: string;
  connected?: string;
  version?: string;
  os?: string;
  arch?: string;
  hostname?: string;
  addresses?: string[] | null;
  boot_time?: string;
  /** It runs checks: the servers allow it, and its agent's own file offers it. */
  checks?: boolean;
  checks_allowed?: boolean;
  checks_offered?: boolean;
  reachable?: boolean;
}
/** Shares lie between 0 and 1; disk is the fullest file system. */
export interface Usage {
  cpu?: number;
  memory?: number;
  disk?: number;
  swap?: number;
  load1?: number;
  cores?: number;
  memory_bytes?: number;
  rx_bytes_per_second?: number;
  tx_bytes_per_second?: number;
  at?: string;
}
export interface HostRow extends Host {
  groups?: string[] | null;
  alerts?: number;
  usage?: Usage | null;
}
export interface HostDetail extends HostRow {
  settings?: {
    interval?: string;
    collectors?: Record<string, boolean> | null;
    labels?: Record<string, string> | null;
    processes?: string[] | null;
  } | null;
  actions?: boolean;
  update?: { wanted: string; state: string } | null;
}
export interface HostPage extends Page<HostRow> {
  counts?: Partial<Record<HostStatus, number>>;
}
export interface HostFilter {
  q?: string;
  status?: string;
  region?: string;
  group?: string;
  label?: string[];
  sort?: string;
}
export interface HostGroup extends Meta {
  hosts?: string[] | null;
  regions?: string[] | null;
  matchers?: Record<string, string> | null;
  priority?: number;
  interval?: string;
  collectors?: Record<string, boolean> | null;
  processes?: string[] | null;
  labels?: Record<string, string> | null;
  mesh?: { peers: string[]; interval?: string; port?: number } | null;
  services?: { kind: string; name: string; match?: string }[] | null;
}

/** useHosts pages through the list; the server filters and sorts, trouble first if nothing else is asked. */
export const useHosts = (f: HostFilter) =>
  useInfiniteQuery({
    queryKey: ["hosts", "list", f],
    queryFn: ({ pageParam, signal }) =>
      get<HostPage>("v1/hosts", { sort: "status", ...f, limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
    // What hosts use changes without an event.
    refetchInterval: 15_000,
  });

/** useGlance reads the first hosts of an order, and how many there are in each state. */
export const useGlance = (sort: string, limit: number, enabled = true) =>
  useQuery({
    queryKey: ["hosts", "glance", sort, limit],
    queryFn: ({ signal }) => get<HostPage>("v1/hosts", { sort, limit }, signal),
    enabled,
    refetchInterval: 15_000,
    placeholderData: keepPreviousData,
  });

/** useHostSearch finds hosts by text. */
export const useHostSearch = (q: string, limit = 8) =>
  useQuery({
    queryKey: ["hosts", "search", q, limit],
    queryFn: ({ signal }) => get<HostPage>("v1/hosts", { q, limit }, signal),
    placeholderData: keepPreviousData,
    retry: false,
  });

/** useAllHosts reads up to 1,000 hosts, for previews. */
export const useAllHosts = () =>
  useQuery({
    queryKey: ["hosts", "all"],
    queryFn: ({ signal }) => get<HostPage>("v1/hosts", { limit: 1000, sort: "name" }, signal),
    staleTime: 60_000,
  });

export const useHost = (id: string) =>
  useQuery({
    queryKey: ["hosts", "one", id],
    queryFn: ({ signal }) => get<HostDetail>(`v1/hosts/${seg(id)}`, {}, signal),
    refetchInterval: 15_000,
  });

export interface Process {
  pid: number;
  name: string;
  program?: string;
  state?: string;
  uid?: number;
  /** In cores. */
  cpu: number;
  resident: number;
  threads?: number;
  started?: string;
}
export interface Snapshot {
  at: string;
  processes?: Process[] | null;
  failed_units?: { name: string; description?: string; active: string; sub?: string }[] | null;
  connections?: {
    states?: Record<string, number> | null;
    listeners?: { protocol: string; address: string; port: number; established: number }[] | null;
    peers?: { address: string; connections: number }[] | null;
  } | null;
  errors?: string[] | null;
}

/** useSnapshot asks the agent what the host does now, again every `every` milliseconds. */
export const useSnapshot = (id: string, every: number | false) =>
  useQuery({
    queryKey: ["hosts", "one", id, "snapshot"],
    queryFn: ({ signal }) => get<Snapshot>(`v1/hosts/${seg(id)}/snapshot`, {}, signal),
    enabled: every !== false,
    refetchInterval: every,
    retry: false,
  });

/** keepLive has the agent send each second for the next 15 s. */
export const keepLive = (id: string) => post<undefined>(`v1/hosts/${seg(id)}/live`);

function useDone() {
  const qc = useQueryClient();
  return () => qc.invalidateQueries({ queryKey: ["hosts"] });
}

export function useLabelHost() {
  const onSettled = useDone();
  return useMutation({
    mutationFn: (a: { id: string; labels: Json }) =>
      request<HostRow>("PATCH", `v1/hosts/${seg(a.id)}`, { body: { labels: a.labels } }),
    onSettled,
  });
}

/** useAllowChecks lets a host run checks, or does not any more. */
export function useAllowChecks() {
  const onSettled = useDone();
  return useMutation({
    mutationFn: (a: { id: string; checks: boolean }) =>
      request<HostRow>("PATCH", `v1/hosts/${seg(a.id)}`, { body: { checks: a.checks } }),
    onSettled,
  });
}

export function useRemoveHost() {
  const qc = useQueryClient();
  // Not the page of the host itself: it would ask for what is gone.
  const onSettled = () => qc.invalidateQueries({ queryKey: ["hosts", "list"] });
  return useMutation({
    mutationFn: (a: { id: string; force: boolean }) =>
      del(`v1/hosts/${seg(a.id)}${a.force ? "?force=true" : ""}`),
    onSettled,
  });
}

export interface BulkChange {
  ids: string[];
  set_labels?: Json;
  remove_labels?: string[];
  remove?: boolean;
}
export interface BulkAnswer {
  changed: number;
  failed?: { id: string; message: string }[] | null;
}
export function useBulkHosts() {
  const onSettled = useDone();
  return useMutation({
    mutationFn: (b: BulkChange) => post<BulkAnswer>("v1/hosts/bulk", b),
    onSettled,
  });
}

export interface HostAction {
  action: "restart";
  kind: "unit" | "process" | "container";
  name: string;
}
export interface ActionAnswer {
  id: string;
  result: "done" | "refused" | "failed";
  message?: string;
}
export const useHostAction = (id: string) =>
  useMutation({ mutationFn: (a: HostAction) => post<ActionAnswer>(`v1/hosts/${seg(id)}/actions`, a) });

/** useAgentInstall gives the commands that install an agent with this token, by kind of machine. */
export const useAgentInstall = (token: string, region: string, checks: boolean) =>
  useQuery({
    queryKey: ["agent-install", token, region, checks],
    // In the body: addresses stand in the logs of proxies.
    queryFn: () => post<Record<string, string>>("v1/agent-install", { token, region, checks }),
    retry: false,
    staleTime: Infinity,
  });
