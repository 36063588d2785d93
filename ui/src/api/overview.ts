import { useQuery } from "@tanstack/react-query";
import { get } from "./client";
import type { Overview } from "./types";

export const useOverview = () =>
  useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => get<Overview>("v1/overview", {}, signal),
    refetchInterval: 30_000,
  });
