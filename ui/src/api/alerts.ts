import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { del, get, post, seg } from "./client";
import type { Alert, Page, Silence } from "./types";

/** useAlerts lists the alerts that match every one of the matchers. */
export const useAlerts = (matchers: string[]) =>
  useQuery({
    queryKey: ["alerts", matchers],
    queryFn: ({ signal }) => get<Page<Alert>>("v1/alerts", { q: matchers }, signal),
    refetchInterval: 15_000,
    placeholderData: keepPreviousData,
  });

export const useSilences = () =>
  useQuery({
    queryKey: ["silences"],
    queryFn: ({ signal }) => get<Page<Silence>>("v1/silences", {}, signal),
    refetchInterval: 30_000,
  });

/** usePreview shows which alerts of now a silence would cover. */
export const usePreview = (matchers: string[], enabled: boolean) =>
  useQuery({
    queryKey: ["silence-preview", matchers],
    queryFn: () => post<{ alerts: Alert[] | null }>("v1/silences/preview", { matchers }),
    enabled,
    placeholderData: keepPreviousData,
    retry: false,
  });

export interface NewSilence {
  matchers: string[];
  starts_at: string;
  ends_at: string;
  comment: string;
}

function useDone() {
  const qc = useQueryClient();
  return () =>
    Promise.all(
      [["silences"], ["alerts"], ["overview"]].map((queryKey) => qc.invalidateQueries({ queryKey })),
    );
}

export function useCreateSilence() {
  const onSuccess = useDone();
  return useMutation({ mutationFn: (s: NewSilence) => post<Silence>("v1/silences", s), onSuccess });
}

export function useExpireSilence() {
  const onSuccess = useDone();
  return useMutation({ mutationFn: (id: string) => del(`v1/silences/${seg(id)}`), onSuccess });
}
