import { useMutation, useQuery } from "@tanstack/react-query";
import { get, post, request, url } from "./client";
import type { Health, Me, User } from "./types";

/** useMe re-reads now and then whether changes can be saved. */
export const useMe = (initial: Me) =>
  useQuery({
    queryKey: ["me"],
    queryFn: ({ signal }) => get<Me>("v1/me", {}, signal),
    initialData: initial,
    staleTime: 20_000,
    refetchInterval: 30_000,
  });

export interface MePatch {
  language?: string;
  display_name?: string;
  password?: string;
  old_password?: string;
}
export const patchMe = (p: MePatch) => request<{ user: User }>("PATCH", "v1/me", { body: p });
export const usePatchMe = () => useMutation({ mutationFn: patchMe });

export async function logout(): Promise<void> {
  await post("v1/logout");
  location.assign(url("login"));
}

export interface HealthReport extends Health {
  levels?: Record<
    string,
    { status: string; parts?: { name: string; status: string; message?: string; reason?: string }[] | null }
  >;
}
export const useHealth = () =>
  useQuery({
    queryKey: ["health"],
    queryFn: ({ signal }) => get<HealthReport>("api/health", {}, signal),
    refetchInterval: 30_000,
  });
