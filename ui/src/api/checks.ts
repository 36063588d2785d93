import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { del, get, post, request, seg } from "./client";
import type { Check, CheckPage, JsonObject, KindType, RangeBar, RunResult, Uptime } from "./types";

export interface CheckFilter {
  q?: string;
  status?: string;
  type?: string;
  region?: string;
  label?: string[];
  sort?: string;
}

export const checkKeys = {
  all: ["checks"] as const,
  list: (f: CheckFilter, range: string) => ["checks", "list", f, range] as const,
  one: (id: string) => ["checks", "one", id] as const,
  types: ["check-types"] as const,
};

/** useChecks pages through the list; bars cover `range` in 60 pieces. */
export function useChecks(f: CheckFilter, range = "24h") {
  return useInfiniteQuery({
    queryKey: checkKeys.list(f, range),
    queryFn: ({ pageParam, signal }) =>
      get<CheckPage>("v1/checks", { ...f, limit: 100, bars: 60, range, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: 60_000,
  });
}

/** useFleet reads up to 1,000 checks without history, for the map. */
export const useFleet = () =>
  useQuery({
    queryKey: ["checks", "fleet"],
    queryFn: ({ signal }) => get<CheckPage>("v1/checks", { limit: 1000, sort: "name" }, signal),
    refetchInterval: 60_000,
  });

/** useCheckSearch finds checks by text. */
export const useCheckSearch = (q: string) =>
  useQuery({
    queryKey: ["checks", "search", q],
    queryFn: ({ signal }) => get<CheckPage>("v1/checks", { q, limit: 12 }, signal),
    placeholderData: keepPreviousData,
  });

export const useCheck = (id: string | undefined) =>
  useQuery({
    queryKey: checkKeys.one(id ?? ""),
    queryFn: ({ signal }) => get<Check>(`v1/checks/${seg(id ?? "")}`, {}, signal),
    enabled: !!id,
    refetchInterval: 30_000,
  });

export const useUptime = (id: string) =>
  useQuery({
    queryKey: [...checkKeys.one(id), "uptime"],
    queryFn: ({ signal }) => get<Uptime>(`v1/checks/${seg(id)}/uptime`, {}, signal),
    refetchInterval: 60_000,
  });

export const useBars = (id: string, range: string, n: number) =>
  useQuery({
    queryKey: [...checkKeys.one(id), "bars", range, n],
    queryFn: ({ signal }) =>
      get<{ bars: RangeBar[] | null }>(`v1/checks/${seg(id)}/bars`, { range, n }, signal),
    refetchInterval: 60_000,
    placeholderData: keepPreviousData,
  });

export const useCheckTypes = () =>
  useQuery({
    queryKey: checkKeys.types,
    queryFn: ({ signal }) => get<KindType[]>("v1/check-types", {}, signal),
    staleTime: Infinity,
  });

function useDone() {
  const qc = useQueryClient();
  return () =>
    Promise.all([
      qc.invalidateQueries({ queryKey: ["checks"] }),
      qc.invalidateQueries({ queryKey: ["overview"] }),
    ]);
}

/** useSaveCheck creates a check, or replaces the one with this id at this revision. */
export function useSaveCheck() {
  const onSuccess = useDone();
  return useMutation({
    mutationFn: (a: { id?: string; revision?: number; spec: JsonObject }) =>
      a.id
        ? request<Check>("PUT", `v1/checks/${seg(a.id)}`, { body: a.spec, ifMatch: a.revision })
        : post<Check>("v1/checks", a.spec),
    onSuccess: () => void onSuccess(),
  });
}

/** usePatchChecks applies one merge patch to several checks and reports the first fault. */
export function usePatchChecks() {
  const onSettled = useDone();
  return useMutation({
    mutationFn: (a: { ids: string[]; patch: JsonObject }) =>
      sequence(a.ids, (id) => request("PATCH", `v1/checks/${seg(id)}`, { body: a.patch })),
    onSettled,
  });
}

export function useDeleteChecks() {
  const qc = useQueryClient();
  // Not the page of the check itself: it would ask for what is gone.
  const onSettled = () =>
    Promise.all(
      [["checks", "list"], ["checks", "fleet"], ["checks", "search"], ["overview"]].map((queryKey) =>
        qc.invalidateQueries({ queryKey }),
      ),
    );
  return useMutation({
    mutationFn: (ids: string[]) => sequence(ids, (id) => del(`v1/checks/${seg(id)}`)),
    onSettled,
  });
}

/** sequence works on six at a time: browsers open no more connections anyway. */
async function sequence(ids: string[], f: (id: string) => Promise<unknown>): Promise<void> {
  const rest = [...ids];
  const worker = async () => {
    for (let id = rest.shift(); id !== undefined; id = rest.shift()) await f(id);
  };
  await Promise.all(Array.from({ length: Math.min(6, ids.length) }, worker));
}

type Results = { results: RunResult[] | null };
export const useTestCheck = () =>
  useMutation({ mutationFn: (spec: JsonObject) => post<Results>("v1/checks/test", spec) });
export const useRunCheck = (id: string) =>
  useMutation({ mutationFn: () => post<Results>(`v1/checks/${seg(id)}/run`) });
