import { ApiError } from "../api/client";
import type { Event } from "../api/types";
import { t, tMaybe } from "./i18n";

/** errorTitle says by code what kind of fault it is. */
export function errorTitle(e: unknown): string {
  if (e instanceof ApiError) return tMaybe(`error.${e.code}`) ?? t("error.internal");
  return t("error.internal");
}

/** errorDetail is the server's own explanation. */
export const errorDetail = (e: unknown): string => (e instanceof Error ? e.message : String(e));

/** errorText joins both for one line. */
export function errorText(e: unknown): string {
  const d = errorDetail(e);
  return d ? t("error.line", { title: errorTitle(e), detail: d }) : errorTitle(e);
}

/** eventText translates an event by its code; what has no translation keeps the server's sentence. */
export function eventText(e: Pick<Event, "code" | "message">): string {
  return (e.code && tMaybe(`event.${e.code}`, { message: e.message })) || e.message;
}
