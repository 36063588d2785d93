import { useQuery } from "@tanstack/react-query";
import { instantQuery } from "../../api/prom";
import type { PromSeries } from "../../api/types";
import { promString } from "../../lib/matchers";
import { PRESENCE } from "./panels";
import { part, union } from "./series";
import { anyOf } from "./view";

const vector = (d: { resultType: string; result: unknown }) =>
  d.resultType === "vector" ? (d.result as PromSeries[]) : [];

export interface Presence {
  names: ReadonlySet<string>;
  /** How many seconds the servers' clock is ahead of the reader's. */
  skew: number;
}

/** usePresence tells which metrics a host has, at a time or now, so that only what is there is shown. */
export const usePresence = (host: string, at: number | null) =>
  useQuery({
    queryKey: ["prom", "presence", host, at],
    queryFn: async ({ signal }): Promise<Presence> => {
      const before = Date.now() / 1000;
      const { data } = await instantQuery(
        anyOf("__name__", PRESENCE)
          .map(
            (m) =>
              // "or" does not tell metrics apart by their names: the name becomes a label.
              `count by (m) (label_replace(last_over_time({host=${promString(host)},${m}}[1h]), "m", "$1", "__name__", "(.+)"))`,
          )
          .join(" or "),
        at,
        signal,
      );
      const list = vector(data);
      const then = list[0]?.value?.[0];
      // The answer carries the time that "now" was taken for.
      const skew = at === null && then !== undefined ? then - (before + Date.now() / 1000) / 2 : 0;
      return {
        names: new Set(list.map((s) => s.metric.m ?? "")),
        skew: Math.abs(skew) > 2 ? skew : 0,
      };
    },
    refetchInterval: at === null ? 120_000 : false,
    retry: false,
  });

export interface Fact {
  metric: Record<string, string>;
  value: number;
}

/** useFacts evaluates several expressions at one time with one query. */
export const useFacts = (
  name: string,
  exprs: [string, string][],
  at: number | null,
  every: number | false,
  enabled = true,
) =>
  useQuery({
    queryKey: ["prom", "facts", name, exprs, at],
    queryFn: async ({ signal }) => {
      const { data } = await instantQuery(union(exprs), at, signal);
      const out = new Map<string, Fact[]>();
      for (const [k, list] of part(vector(data)))
        out.set(
          k,
          list.map((s) => ({ metric: s.metric, value: Number(s.value?.[1] ?? NaN) })),
        );
      return out;
    },
    enabled,
    refetchInterval: at === null ? every : false,
    placeholderData: (old) => old,
    retry: false,
  });

/** keyed finds a fact by one of its labels. */
export const keyed = (list: Fact[] | undefined, label: string): Map<string, number> =>
  new Map((list ?? []).map((f) => [f.metric[label] ?? "", f.value]));
