import { ApiError } from "../api/client";
import type { Event } from "../api/types";
import { t, tMaybe } from "./i18n";

/** errorTitle says by code what kind of fault it is. */
export function errorTitle(e: unknown): string {
  if (e instanceof ApiError) return tMaybe(`error.${e.code}`) ?? t("error.internal");
  return t("error.internal");
}

/** errorDetail is the server's own explanation; when nobody answered, the browser's says nothing more than the title. */
export function errorDetail(e: unknown): string {
  if (e instanceof ApiError && e.code === "network") return errorTitle(e);
  return e instanceof Error ? e.message : String(e);
}

/** errorText joins both for one line. */
export function errorText(e: unknown): string {
  const d = errorDetail(e);
  const title = errorTitle(e);
  return d && d !== title ? t("error.line", { title, detail: d }) : title;
}

/** plainMessage leaves out of an alert's text what stands beside it anyway: its state and the check's name. */
export function plainMessage(message: string, name: string | undefined): string {
  const text = message.replace(/^(firing|resolved): /, "");
  return name && text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
}

/** eventName is what an event is about: alerts of a check are called by the check. */
export const eventName = (e: Event): string => (e.kind === "alert" && e.labels?.check) || e.name || "";

/** eventText translates an event by its code; what has no translation keeps the server's sentence. */
export function eventText(e: Event): string {
  const params = {
    message: plainMessage(e.message, eventName(e)),
    kind: tMaybe(`record.${e.subject.split("/")[0] ?? ""}`) ?? "",
  };
  return (e.code && tMaybe(`event.${e.code}`, params)) || e.message;
}
