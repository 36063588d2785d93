import { Button, NativeSelect } from "@mantine/core";
import { useEvents, type EventFilter } from "../../api/events";
import { EventList } from "../../components/EventList";
import { Empty, Faces } from "../../components/faces";
import { Page } from "../../components/Page";
import { RangePicker } from "../../components/RangePicker";
import { SearchBox } from "../../components/SearchBox";
import { useUrl } from "../../components/useParams";
import { dayName, dayOnly, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { parseDuration } from "../../lib/time";
import { byDay } from "./days";

const KINDS = ["state", "alert", "delivery", "audit", "node"] as const;
const RANGES = ["1h", "24h", "7d", "30d", "all"];

export default function EventsPage() {
  const { t } = useT();
  const now = useNow();
  const { get, list, set } = useUrl();
  const kinds = list("kind");
  const range = RANGES.includes(get("range")) ? get("range") : "all";
  // Rounded, so that the question stays the same for a minute.
  const from =
    range === "all"
      ? ""
      : new Date(Math.floor(now / 60_000) * 60_000 - (parseDuration(range) ?? 0)).toISOString();
  const filter: EventFilter = {
    kind: get("kind"),
    severity: get("severity"),
    q: get("q"),
    subject: get("subject"),
    from,
  };
  const query = useEvents(filter);
  const events = query.data?.pages.flatMap((p) => p.items ?? []) ?? [];
  const filtered = kinds.length || get("severity") || get("q") || range !== "all";
  return (
    <Page title={t("nav.events")}>
      <div className="filters">
        <div className="filter-row">
          <SearchBox label={t("events.search")} value={get("q")} onChange={(q) => set({ q })} />
          <NativeSelect
            aria-label={t("editor.severity")}
            value={get("severity")}
            onChange={(e) => set({ severity: e.currentTarget.value })}
            data={[
              { value: "", label: t("events.allseverities") },
              ...(["critical", "warning", "info"] as const).map((s) => ({
                value: s,
                label: t(`severity.${s}`),
              })),
            ]}
          />
          <RangePicker
            value={range}
            options={RANGES}
            onChange={(r) => set({ range: r === "all" ? "" : r })}
          />
        </div>
        <div className="filter-row chips" role="group" aria-label={t("events.kind")}>
          {KINDS.map((k) => (
            <button
              key={k}
              type="button"
              className="chip"
              aria-pressed={kinds.includes(k)}
              onClick={() =>
                set({ kind: (kinds.includes(k) ? kinds.filter((x) => x !== k) : [...kinds, k]).join(",") })
              }
            >
              {t(`events.kind.${k}`)}
            </button>
          ))}
        </div>
      </div>
      <Faces query={query} rows={10} height={36}>
        {events.length ? (
          <>
            {byDay(events, (e) => dayOnly(e.time)).map(([day, part]) => (
              <section key={day} className="card" aria-label={day}>
                <h2>{part[0] && dayName(part[0].time)}</h2>
                <EventList events={part} absolute />
              </section>
            ))}
            {query.hasNextPage && (
              <Button
                variant="default"
                loading={query.isFetchingNextPage}
                onClick={() => void query.fetchNextPage()}
              >
                {t("common.more")}
              </Button>
            )}
          </>
        ) : (
          <Empty
            icon="events"
            title={t("events.none")}
            action={
              filtered && (
                <Button
                  variant="default"
                  onClick={() => set({ kind: "", severity: "", q: "", range: "", subject: "" })}
                >
                  {t("filters.clear")}
                </Button>
              )
            }
          />
        )}
      </Faces>
    </Page>
  );
}
