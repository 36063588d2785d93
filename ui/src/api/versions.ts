import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { get, request, seg } from "./client";
import type { JsonObject, Meta, Page } from "./types";

/** What a record was before and after one change. */
export interface Version {
  id: string;
  time: string;
  actor?: string;
  op: "create" | "update" | "delete";
  name: string;
  before?: JsonObject | null;
  after?: JsonObject | null;
}

/** The kinds of record whose versions can be seen. */
export type Versioned = "rules" | "scrapes";

export const useVersions = (kind: Versioned, id: string) =>
  useInfiniteQuery({
    queryKey: [kind, "versions", id],
    queryFn: ({ pageParam, signal }) =>
      get<Page<Version>>(`v1/${kind}/${seg(id)}/versions`, { limit: 50, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
  });

/** useRecord reads the record as it is now. */
export const useRecord = (kind: Versioned, id: string) =>
  useQuery({
    queryKey: [kind, "one", id],
    queryFn: ({ signal }) => get<Meta>(`v1/${kind}/${seg(id)}`, {}, signal),
  });

/** useRestore writes an old version over the record that was read. */
export function useRestore(kind: Versioned) {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { id: string; revision: number | undefined; spec: JsonObject }) =>
      request<Meta>("PUT", `v1/${kind}/${seg(a.id)}`, { body: a.spec, ifMatch: a.revision }),
    onSuccess: () =>
      Promise.all(
        [[kind], kind === "rules" ? ["rule-groups"] : ["scrape-targets"]].map((queryKey) =>
          qc.invalidateQueries({ queryKey }),
        ),
      ),
  });
}
