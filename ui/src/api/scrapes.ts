import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { del, get, post, request, seg } from "./client";
import type { Json, JsonObject, Meta, Page } from "./types";

export const TARGET_STATES = ["up", "down", "unknown"] as const;
export type TargetState = (typeof TARGET_STATES)[number];

export interface Target {
  job: string;
  url: string;
  labels?: Record<string, string> | null;
  /** Before relabelling. */
  discovered?: Record<string, string> | null;
  health: TargetState;
  last_error?: string;
  last_scrape?: string;
  duration_seconds?: number;
  interval?: string;
  server?: string;
  region?: string;
}
/** What discovery gave for a job, on all servers together. */
export interface JobState {
  job: string;
  discovered: number;
  active: number;
  dropped: number;
  invalid: number;
  example?: string;
}
export interface JobProblem {
  job: string;
  message: string;
  server: string;
}
export interface TargetPage extends Page<Target> {
  counts?: Partial<Record<TargetState, number>>;
  jobs?: JobState[] | null;
  problems?: JobProblem[] | null;
}
/** A scrape job: one scrape_config of Prometheus, and where it runs. */
export interface ScrapeJob extends Meta {
  description?: string;
  regions?: string[] | null;
  per_region?: boolean;
  workers?: Record<string, string> | null;
  labels?: Record<string, string> | null;
  /** Agents of these hosts scrape, instead of servers. */
  agents?: {
    hosts?: string[] | null;
    regions?: string[] | null;
    labels?: Record<string, string> | null;
  } | null;
  paused?: boolean;
  config: Json;
}
export interface TargetFilter {
  q?: string;
  state?: string;
  job?: string;
}

export const useTargets = (f: TargetFilter) =>
  useInfiniteQuery({
    queryKey: ["scrape-targets", f],
    queryFn: ({ pageParam, signal }) =>
      get<TargetPage>("v1/scrape-targets", { ...f, limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });

export const useScrapes = (q = "") =>
  useInfiniteQuery({
    queryKey: ["scrapes", "list", q],
    queryFn: ({ pageParam, signal }) =>
      get<Page<ScrapeJob>>("v1/scrapes", { q, limit: 200, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
  });

export const useScrape = (id: string | undefined) =>
  useQuery({
    queryKey: ["scrapes", "one", id ?? ""],
    queryFn: ({ signal }) => get<ScrapeJob>(`v1/scrapes/${seg(id ?? "")}`, {}, signal),
    enabled: !!id,
  });

function useChanged() {
  const qc = useQueryClient();
  return () =>
    Promise.all([["scrapes"], ["scrape-targets"]].map((queryKey) => qc.invalidateQueries({ queryKey })));
}

export function useSaveScrape() {
  const onSuccess = useChanged();
  return useMutation({
    mutationFn: (a: { id?: string | undefined; revision?: number | undefined; spec: JsonObject }) =>
      a.id
        ? request<ScrapeJob>("PUT", `v1/scrapes/${seg(a.id)}`, { body: a.spec, ifMatch: a.revision })
        : post<ScrapeJob>("v1/scrapes", a.spec),
    onSuccess,
  });
}

export function usePatchScrape() {
  const onSuccess = useChanged();
  return useMutation({
    mutationFn: (a: { id: string; patch: JsonObject }) =>
      request<ScrapeJob>("PATCH", `v1/scrapes/${seg(a.id)}`, { body: a.patch }),
    onSuccess,
  });
}

export function useDeleteScrape() {
  const onSuccess = useChanged();
  return useMutation({ mutationFn: (id: string) => del(`v1/scrapes/${seg(id)}`), onSuccess });
}

export interface Imported {
  changes: { kind: string; name: string; op: "create" | "update" | "none"; diff?: string }[] | null;
  notes: string[] | null;
}

/** useImport takes over a prometheus.yml with the files that it names, or shows what that would change. */
export function useImport() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { config: string; files: Record<string, string>; dry: boolean }) =>
      post<Imported>(
        "v1/import/prometheus",
        { config: a.config, files: a.files },
        a.dry ? { dry_run: true } : undefined,
      ),
    onSuccess: (_, a) =>
      a.dry
        ? undefined
        : Promise.all(
            [["scrapes"], ["scrape-targets"], ["rules"], ["rule-groups"]].map((queryKey) =>
              qc.invalidateQueries({ queryKey }),
            ),
          ),
  });
}
