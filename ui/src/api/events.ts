import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { get } from "./client";
import type { Event, Page } from "./types";

export interface EventFilter {
  kind?: string;
  subject?: string;
  severity?: string;
  q?: string;
  from?: string;
  to?: string;
}

/** useEvents pages backwards through what happened. */
export const useEvents = (f: EventFilter, limit = 100) =>
  useInfiniteQuery({
    queryKey: ["events", f, limit],
    queryFn: ({ pageParam, signal }) =>
      get<Page<Event>>("v1/events", { ...f, limit, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (last) => last.next || undefined,
    placeholderData: keepPreviousData,
  });
