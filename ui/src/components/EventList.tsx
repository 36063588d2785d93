import { Link } from "wouter";
import type { Event } from "../api/types";
import { ago, dateTime, timeOnly, useNow } from "../i18n/format";
import { eventName, eventText } from "../i18n/errors";
import { sentence, useT, type Key } from "../i18n/i18n";
import { StatusIcon } from "./Status";
import { Icon, type IconName } from "./icons";

const ICONS: Record<Event["kind"], IconName> = {
  state: "checks",
  alert: "bell",
  delivery: "send",
  audit: "edit",
  node: "servers",
};

/** eventHref is where more is to be read about an event's subject. */
function eventHref(e: Event): string | undefined {
  const [kind, id] = e.subject.split("/");
  if (kind === "check" && id) return `/checks/${id}`;
  if (kind === "alert") return e.labels?.check ? `/checks/${encodeURIComponent(e.labels.check)}` : "/alerts";
  if (kind === "node" && id) return `/${e.labels?.host ? "hosts" : "servers"}/${encodeURIComponent(id)}`;
  if (kind === "rules" && id) return `/rules/${encodeURIComponent(id)}/versions`;
  if (kind === "scrape" && id) return `/scrapes/${encodeURIComponent(id)}/versions`;
  if (kind === "receiver") return "/settings/receivers";
  return undefined;
}

function Mark({ e }: { e: Event }) {
  const status = e.kind === "state" ? (e.code ?? "").split(".").pop() : undefined;
  if (
    status === "up" ||
    status === "down" ||
    status === "degraded" ||
    status === "unknown" ||
    status === "maintenance" ||
    status === "paused"
  )
    return <StatusIcon status={status} />;
  return <Icon name={ICONS[e.kind] ?? "events"} size={16} className={`sev-${e.severity ?? "info"}`} />;
}

/** EventList shows events, newest first; with absolute it writes the clock instead of the distance. */
export function EventList({ events, absolute = false }: { events: Event[]; absolute?: boolean }) {
  const { t } = useT();
  const now = useNow();
  return (
    <ol className="events">
      {events.map((e) => {
        const href = eventHref(e);
        const name = eventName(e);
        return (
          <li key={e.id}>
            <Mark e={e} />
            <div className="event-body">
              {name && (href ? <Link href={href}>{name}</Link> : <b>{name}</b>)}
              <span className="event-text" title={sentence(e.message)}>
                {eventText(e)}
              </span>
              {e.actor && e.actor !== "system" && (
                <small className="muted">{t("events.by", { actor: e.actor })}</small>
              )}
            </div>
            <small className="muted nowrap">
              <span className="sr">{t(`events.kind.${e.kind}` as Key)}</span>
              <time dateTime={e.time} title={dateTime(e.time)}>
                {absolute ? timeOnly(e.time) : ago(e.time, now)}
              </time>
            </small>
          </li>
        );
      })}
    </ol>
  );
}
