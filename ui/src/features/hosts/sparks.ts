import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { rangeQuery } from "../../api/prom";
import { anyOf } from "./view";

const BLOCK = 20;
const STEP = 120;
const SPAN = 3600;

/** blockOf widens the rows in view to whole blocks, so that scrolling a little asks for nothing new. */
export function blockOf(names: string[], first: number, last: number): string[] {
  const from = Math.floor(Math.max(0, first) / BLOCK) * BLOCK;
  return names.slice(from, (Math.floor(Math.max(0, last) / BLOCK) + 1) * BLOCK);
}

/** points spreads the values of a series over the columns of a sparkline; what is missing is NaN. */
export function points(values: [number, string][], start: number, end: number): number[] {
  const out = new Array<number>(Math.round((end - start) / STEP) + 1).fill(NaN);
  for (const [at, v] of values) {
    const i = Math.round((at - start) / STEP);
    if (i >= 0 && i < out.length) out[i] = Number(v);
  }
  return out;
}

/**
 * useSparks reads the processor time of the last hour for the rows in view, all
 * with one query, after scrolling has come to rest.
 */
export function useSparks(names: string[], first: number, last: number): ReadonlyMap<string, number[]> {
  const want = blockOf(names, first, last).join("\n");
  const [block, setBlock] = useState(want);
  useEffect(() => {
    const id = setTimeout(() => setBlock(want), 200);
    return () => clearTimeout(id);
  }, [want]);
  const query = useQuery({
    queryKey: ["prom", "sparks", block],
    queryFn: async ({ signal }) => {
      const end = Math.floor(Date.now() / 1000 / STEP) * STEP;
      const start = end - SPAN;
      const expr = anyOf("host", block.split("\n"))
        .map((m) => `1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle",${m}}[5m]))`)
        .join(" or ");
      const { data } = await rangeQuery(expr, { start, end, step: STEP }, signal);
      if (data.resultType !== "matrix") return [];
      return data.result.map((s) => [s.metric.host ?? "", points(s.values ?? [], start, end)] as const);
    },
    enabled: block !== "",
    staleTime: 60_000,
    refetchInterval: 120_000,
    retry: false,
  });
  // What was read stays while the next block is on its way.
  const [kept, setKept] = useState<ReadonlyMap<string, number[]>>(new Map());
  const [seen, setSeen] = useState(query.data);
  if (query.data && seen !== query.data) {
    setSeen(query.data);
    setKept(new Map([...(kept.size > 2000 ? [] : kept), ...query.data]));
  }
  return useMemo(() => kept, [kept]);
}
