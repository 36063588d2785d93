import { ApiError } from "../api/client";
import type { Alert, Event } from "../api/types";
import { language, sentence, t, tMaybe } from "./i18n";

/** errorTitle says by code what kind of fault it is. */
export function errorTitle(e: unknown): string {
  if (e instanceof ApiError) return tMaybe(`error.${e.code}`) ?? t("error.internal");
  return t("error.internal");
}

/** errorDetail is the server's own explanation; when nobody answered, the browser's says nothing more than the title. */
export function errorDetail(e: unknown): string {
  if (e instanceof ApiError && e.code === "network") return errorTitle(e);
  if (e instanceof ApiError) return sentence(e.message);
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

const OWN_ALERTS = [
  "CheckDown",
  "CheckDegraded",
  "CheckUnknown",
  "HostDown",
  "HostUnknown",
  "HostClockWrong",
  "RegionImpaired",
];

/** ownWords tells alerts of checks, hosts and regions, whose text is the servers', from those of people's rules. */
const ownWords = (labels: Record<string, string> | null | undefined) =>
  OWN_ALERTS.includes(labels?.alertname ?? "");

/** alertText is what an alert says, in the reader's language if its rule or the server has it. */
export function alertText(a: Pick<Alert, "labels" | "annotations">): string {
  const { summary_zh: zh, summary, description, message } = a.annotations ?? {};
  if (zh && language() === "zh-CN") return zh;
  const text = plainMessage(summary ?? description ?? message ?? "", a.labels.check);
  return ownWords(a.labels) ? sentence(text) : text;
}

/** eventText translates an event by its code; what has no translation keeps the server's sentence. */
export function eventText(e: Event): string {
  const plain = plainMessage(e.message, eventName(e));
  const theirs = e.kind === "alert" ? !ownWords(e.labels) : e.code?.startsWith("silence.");
  const params = {
    message: theirs ? plain : sentence(plain),
    kind: tMaybe(`record.${e.subject.split("/")[0] ?? ""}`) ?? "",
  };
  return (e.code && tMaybe(`event.${e.code}`, params)) || (theirs ? e.message : sentence(e.message));
}
