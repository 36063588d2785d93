import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { get, request } from "./client";
import type { PromData } from "./types";

interface Envelope<T> {
  status: string;
  data: T;
  warnings?: string[];
  infos?: string[];
}

export interface PromAnswer {
  data: PromData;
  warnings: string[];
  infos: string[];
  seconds: number;
}

async function ask(path: string, params: Record<string, string>, signal: AbortSignal): Promise<PromAnswer> {
  const t0 = performance.now();
  const e = await request<Envelope<PromData>>("POST", path, { body: new URLSearchParams(params), signal });
  return {
    data: e.data,
    warnings: e.warnings ?? [],
    infos: e.infos ?? [],
    seconds: (performance.now() - t0) / 1000,
  };
}

export interface Span {
  start: number;
  end: number;
  step: number;
}

/** rangeQuery evaluates an expression over time once. */
export const rangeQuery = (expr: string, s: Span, signal: AbortSignal) =>
  ask(
    "api/v1/query_range",
    { query: expr, start: String(s.start), end: String(s.end), step: String(s.step) },
    signal,
  );

/** instantQuery evaluates an expression once, at a time in Unix seconds or now. */
export const instantQuery = (expr: string, time: number | null, signal: AbortSignal) =>
  ask("api/v1/query", { query: expr, ...(time === null ? {} : { time: String(time) }) }, signal);

/** useRange evaluates an expression over time; start, end and step are Unix seconds. */
export const useRange = (
  expr: string,
  s: Span,
  opts: { enabled?: boolean; refetch?: number; nonce?: number } = {},
) =>
  useQuery({
    queryKey: ["prom", "range", expr, s.start, s.end, s.step, opts.nonce ?? 0],
    queryFn: ({ signal }) => rangeQuery(expr, s, signal),
    enabled: expr !== "" && opts.enabled !== false,
    placeholderData: keepPreviousData,
    retry: false,
  });

/** useInstant evaluates an expression at one time (Unix seconds), or now. */
export const useInstant = (
  expr: string,
  time: number | null,
  opts: { enabled?: boolean; nonce?: number } = {},
) =>
  useQuery({
    queryKey: ["prom", "instant", expr, time, opts.nonce ?? 0],
    queryFn: ({ signal }) => instantQuery(expr, time, signal),
    enabled: expr !== "" && opts.enabled !== false,
    retry: false,
  });

/** formatQuery asks the server to lay an expression out. */
export const formatQuery = async (query: string) =>
  (await get<Envelope<string>>("api/v1/format_query", { query })).data;

/** What answering a query takes. Times are RFC 3339, the step is in seconds. */
export interface Explanation {
  query: string;
  type: string;
  start: string;
  end: string;
  step?: number;
  steps: number;
  selectors: { selector: string; series: number; from: string; to: string }[] | null;
  parts: number;
  /** Share of the steps whose answer is kept. */
  cached: number;
  /** Why it is answered at once and not in parts. */
  whole?: string;
  warnings?: string[] | null;
  tree?: unknown;
}

/** useExplain asks what a query would take; no samples are read. */
export const useExplain = (expr: string, s: Span, opts: { enabled: boolean; nonce: number }) =>
  useQuery({
    queryKey: ["prom", "explain", expr, s.start, s.end, s.step, opts.nonce],
    queryFn: ({ signal }) =>
      get<Explanation>(
        "v1/explain",
        { query: expr, start: String(s.start), end: String(s.end), step: `${s.step}s` },
        signal,
      ),
    enabled: expr !== "" && opts.enabled,
    placeholderData: keepPreviousData,
    retry: false,
  });

export interface SlowQuery {
  path: string;
  query?: string;
  user: string;
  at: string;
  seconds: number;
  code: number;
  samples: number;
  peak_samples: number;
  series: number;
  step?: number;
  range?: number;
  cached: number;
  server?: string;
}

/** useSlowQueries lists what took long lately, the newest first. */
export const useSlowQueries = () =>
  useQuery({
    queryKey: ["slow-queries"],
    queryFn: async ({ signal }) =>
      (await get<{ items: SlowQuery[] | null }>("v1/slow-queries", {}, signal)).items ?? [],
    refetchInterval: 30_000,
  });
