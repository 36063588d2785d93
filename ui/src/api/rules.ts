import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { del, get, post, request, seg } from "./client";
import type { Json, JsonObject, Meta, Page } from "./types";

export const RULE_STATES = ["firing", "pending", "inactive", "broken"] as const;
export type RuleStateName = (typeof RULE_STATES)[number];

export interface RuleAlert {
  state: string;
  labels: Record<string, string>;
  annotations?: Record<string, string> | null;
  active_at: string;
  keep_firing_since?: string;
  value: string;
}
export interface Rule {
  type: "alerting" | "recording";
  name: string;
  expr: string;
  /** Of alerting rules: inactive, pending, firing, unknown. */
  state?: string;
  for?: string;
  keep_firing_for?: string;
  labels?: Record<string, string> | null;
  annotations?: Record<string, string> | null;
  alerts?: RuleAlert[] | null;
  health: string;
  error?: string;
  evaluated?: string;
  took_seconds: number;
}
export interface RuleGroup {
  name: string;
  /** The record's name, or the path of a server's own file. */
  source: string;
  file?: boolean;
  node?: string;
  server?: string;
  state: RuleStateName;
  error?: string;
  alerts: number;
  interval: string;
  query_offset?: string;
  limit?: number;
  evaluated?: string;
  took_seconds: number;
  rules: Rule[] | null;
}
export interface RuleGroupPage extends Page<RuleGroup> {
  counts?: Partial<Record<RuleStateName, number>>;
}
/** A record of rules: groups of Prometheus' rule files. */
export interface RuleSet extends Meta {
  groups: JsonObject[] | null;
  disabled?: boolean;
  labels?: Record<string, string> | null;
  /** Its rules see only series with these labels. */
  matchers?: string[] | null;
}

export interface Firing {
  labels: Record<string, string>;
  annotations?: Record<string, string> | null;
  active_at: string;
  fired_at: string;
  value?: string;
  /** It fired at the beginning already. */
  earlier?: boolean;
  /** Missing: it would still fire. */
  resolved_at?: string;
}
export interface RuleTrial {
  name: string;
  type: "alerting" | "recording";
  series: number;
  samples: number;
  firings?: Firing[] | null;
  pendings: number;
  errors?: number;
  error?: string;
}
/** What a group would have done. */
export interface Trial {
  name?: string;
  from: string;
  to: string;
  interval: string;
  evaluations: number;
  rules: RuleTrial[] | null;
  capped?: boolean;
  note?: string;
}
/** useRuleGroups pages through the groups of all servers with the state of their rules. */
export const useRuleGroups = (f: { q?: string; state?: string }) =>
  useInfiniteQuery({
    queryKey: ["rule-groups", f],
    queryFn: ({ pageParam, signal }) =>
      get<RuleGroupPage>("v1/rule-groups", { ...f, limit: 200, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });

/** useRuleSets pages through the records. */
export const useRuleSets = (q: string) =>
  useInfiniteQuery({
    queryKey: ["rules", "list", q],
    queryFn: ({ pageParam, signal }) =>
      get<Page<RuleSet>>("v1/rules", { q, limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
  });

export const useRuleSet = (id: string | undefined) =>
  useQuery({
    queryKey: ["rules", "one", id ?? ""],
    queryFn: ({ signal }) => get<RuleSet>(`v1/rules/${seg(id ?? "")}`, {}, signal),
    enabled: !!id,
  });

function useChanged() {
  const qc = useQueryClient();
  return () =>
    Promise.all([["rules"], ["rule-groups"]].map((queryKey) => qc.invalidateQueries({ queryKey })));
}

/** useSaveRules creates, or replaces what still has the revision that was read. */
export function useSaveRules() {
  const onSuccess = useChanged();
  return useMutation({
    mutationFn: (a: { id?: string | undefined; revision?: number | undefined; spec: JsonObject }) =>
      a.id
        ? request<RuleSet>("PUT", `v1/rules/${seg(a.id)}`, { body: a.spec, ifMatch: a.revision })
        : post<RuleSet>("v1/rules", a.spec),
    onSuccess,
  });
}

export function usePatchRules() {
  const onSuccess = useChanged();
  return useMutation({
    mutationFn: (a: { id: string; patch: JsonObject }) =>
      request<RuleSet>("PATCH", `v1/rules/${seg(a.id)}`, { body: a.patch }),
    onSuccess,
  });
}

export function useDeleteRules() {
  const onSuccess = useChanged();
  return useMutation({ mutationFn: (id: string) => del(`v1/rules/${seg(id)}`), onSuccess });
}

/** useCheckRules asks the server whether it would take a record, without storing it. */
export const useCheckRules = (name: string, spec: JsonObject | null) =>
  useQuery({
    queryKey: ["rules", "check", name, JSON.stringify(spec)],
    queryFn: () =>
      post("v1/apply", { documents: [{ kind: "rules", name, spec }] }, { dry_run: true }).then(() => true),
    enabled: spec !== null && name !== "",
    retry: false,
    staleTime: Infinity,
    gcTime: 10_000,
  });

/** useTry evaluates groups over the past and writes nothing. */
export const useTry = () =>
  useMutation({
    mutationFn: async (a: { groups: Json[]; matchers?: Json; range: string }) =>
      (await post<{ groups: Trial[] | null }>("v1/rules/try", a)).groups ?? [],
  });
