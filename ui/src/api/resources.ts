import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { del, get, post, request, seg } from "./client";
import type { HostGroup } from "./hosts";
import type {
  JsonObject,
  Key,
  KindType,
  Maintenance,
  Page,
  Receiver,
  Region,
  Route,
  TestResult,
  UserRecord,
} from "./types";

/** The records that are small lists: all of them are read at once. */
export interface ResourceTypes {
  receivers: Receiver;
  routes: Route;
  maintenances: Maintenance;
  users: UserRecord;
  keys: Key;
  regions: Region;
  hostgroups: HostGroup;
}
export type ResourceName = keyof ResourceTypes;

async function all<T>(plural: string, signal: AbortSignal): Promise<T[]> {
  const out: T[] = [];
  let cursor = "";
  do {
    const page = await get<Page<T>>(`v1/${plural}`, { limit: 500, cursor }, signal);
    out.push(...(page.items ?? []));
    cursor = page.next ?? "";
  } while (cursor && out.length < 10_000);
  return out;
}

export const useResource = <N extends ResourceName>(name: N, enabled = true) =>
  useQuery({ queryKey: [name], queryFn: ({ signal }) => all<ResourceTypes[N]>(name, signal), enabled });

export function useSave<N extends ResourceName>(name: N) {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (a: { id?: string | undefined; revision?: number | undefined; spec: JsonObject }) =>
      a.id
        ? request<ResourceTypes[N]>("PUT", `v1/${name}/${seg(a.id)}`, { body: a.spec, ifMatch: a.revision })
        : post<ResourceTypes[N]>(`v1/${name}`, a.spec),
    onSuccess: () => qc.invalidateQueries({ queryKey: [name] }),
  });
}

export function useRemove(name: ResourceName) {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => del(`v1/${name}/${seg(id)}`),
    onSuccess: () => qc.invalidateQueries({ queryKey: [name] }),
  });
}

export const useReceiverTypes = () =>
  useQuery({
    queryKey: ["receiver-types"],
    queryFn: ({ signal }) => get<KindType[]>("v1/receiver-types", {}, signal),
    staleTime: Infinity,
  });

/** useTestReceiver sends a test message through an unsaved or, with an id, a stored receiver. */
export const useTestReceiver = () =>
  useMutation({
    mutationFn: (a: { id?: string; spec?: JsonObject }) =>
      a.id
        ? post<TestResult>(`v1/receivers/${seg(a.id)}/test`)
        : post<TestResult>("v1/receivers/test", a.spec),
  });
