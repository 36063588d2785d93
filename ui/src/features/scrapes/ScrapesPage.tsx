import { Button, NativeSelect } from "@mantine/core";
import { useMemo } from "react";
import { useLocation } from "wouter";
import { TARGET_STATES, useTargets, type Target } from "../../api/scrapes";
import type { Status } from "../../api/types";
import { Empty, Faces } from "../../components/faces";
import { Labels } from "../../components/Labels";
import { SearchBox } from "../../components/SearchBox";
import { StatusIcon } from "../../components/Status";
import { useUrl } from "../../components/useParams";
import { ago, dateTime, num, seconds, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { ScrapesTabs } from "./ScrapesTabs";

const LOOKS: Record<Target["health"], Status> = { up: "up", down: "down", unknown: "pending" };

/** ScrapesPage lists the targets of all servers; the server searches, sorts and pages. */
export default function ScrapesPage() {
  const { t } = useT();
  const [, go] = useLocation();
  const { get, list, set } = useUrl();
  const editor = useCan("editor");
  const filter = { q: get("q"), job: get("job"), state: list("state").join(",") };
  const query = useTargets(filter);
  const first = query.data?.pages[0];
  const items = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  const states = list("state");
  // The jobs of all targets; with a job chosen the server tells of that one only.
  const every = useTargets({});
  const jobs = every.data?.pages[0]?.jobs ?? [];
  const problems = (first?.problems ?? []).filter((p) => !filter.job || p.job === filter.job);
  const odd = (first?.jobs ?? []).filter((j) => j.invalid > 0);
  const filtered = Object.values(filter).some(Boolean);
  const toggle = (s: string) =>
    set({ state: (states.includes(s) ? states.filter((x) => x !== s) : [...states, s]).join(",") });
  return (
    <ScrapesTabs here="/scrapes">
      <div className="filters">
        <div className="filter-row">
          <SearchBox label={t("scrapes.search")} value={filter.q} onChange={(q) => set({ q })} />
          {(jobs.length > 1 || filter.job) && (
            <NativeSelect
              aria-label={t("scrapes.job")}
              value={filter.job}
              onChange={(e) => set({ job: e.currentTarget.value })}
              data={[
                { value: "", label: t("scrapes.alljobs") },
                ...[...new Set([...jobs.map((j) => j.job), ...(filter.job ? [filter.job] : [])])].map(
                  (j) => ({
                    value: j,
                    label: j,
                  }),
                ),
              ]}
            />
          )}
        </div>
        <div className="filter-row chips" role="group" aria-label={t("scrapes.state")}>
          <button
            type="button"
            className="chip"
            aria-pressed={!states.length}
            onClick={() => set({ state: "" })}
          >
            {t("filters.all")}
          </button>
          {TARGET_STATES.map((s) => (
            <button
              key={s}
              type="button"
              className="chip"
              aria-pressed={states.includes(s)}
              onClick={() => toggle(s)}
            >
              <StatusIcon status={LOOKS[s]} size={14} />
              {t(`scrapes.state.${s}`)} {first?.counts && <b>{num(first.counts[s] ?? 0)}</b>}
            </button>
          ))}
        </div>
      </div>
      {problems.map((p, i) => (
        <p key={i} className="stale">
          {t("scrapes.problem", { job: p.job, server: p.server, message: sentence(p.message) })}
        </p>
      ))}
      {odd.map((j) => (
        <p key={j.job} className="stale">
          {t("scrapes.invalid", { job: j.job, n: j.invalid, example: sentence(j.example ?? "") })}
        </p>
      ))}
      <Faces query={query} rows={8} height={44}>
        {items.length ? (
          <>
            <TargetTable items={items} onJob={(job) => set({ job })} />
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
        ) : filtered ? (
          <Empty
            icon="search"
            title={t("scrapes.nomatch")}
            text={t("checks.nomatch.text")}
            action={
              <Button variant="default" onClick={() => set({ q: "", job: "", state: "" })}>
                {t("filters.clear")}
              </Button>
            }
          />
        ) : (
          <Empty
            icon="target"
            title={t("scrapes.none")}
            text={t("scrapes.none.text")}
            action={editor && <Button onClick={() => go("/scrapes/new")}>{t("scrapes.new")}</Button>}
          />
        )}
      </Faces>
    </ScrapesTabs>
  );
}

function TargetTable({ items, onJob }: { items: Target[]; onJob: (job: string) => void }) {
  const { t } = useT();
  const now = useNow();
  return (
    <div className="card targets">
      <table className="plain">
        <thead>
          <tr>
            <th scope="col">{t("scrapes.state")}</th>
            <th scope="col">{t("scrapes.target")}</th>
            <th scope="col">{t("rules.labels")}</th>
            <th scope="col">{t("scrapes.by")}</th>
            <th scope="col" className="num">
              {t("scrapes.last")}
            </th>
            <th scope="col" className="num">
              {t("scrapes.took")}
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((x) => (
            <tr key={`${x.job}/${x.url}/${x.server}/${JSON.stringify(x.labels)}`}>
              <td className="nowrap">
                <span className={`pill pill-${x.health === "unknown" ? "idle" : x.health}`}>
                  <StatusIcon status={LOOKS[x.health] ?? "pending"} size={14} />
                  {t(`scrapes.state.${x.health}`)}
                </span>
              </td>
              <td className="target-url">
                <span className="break">{x.url}</span>
                {x.last_error && <small className="target-error">{sentence(x.last_error)}</small>}
                {x.discovered && (
                  <details>
                    <summary>{t("scrapes.discovered")}</summary>
                    <Labels labels={x.discovered} />
                  </details>
                )}
              </td>
              <td>
                <button
                  type="button"
                  className="label"
                  title={t("labels.filter")}
                  onClick={() => onJob(x.job)}
                >
                  job=<b>{x.job}</b>
                </button>{" "}
                <Labels labels={x.labels} skip={x.labels?.job === x.job ? ["job"] : []} />
              </td>
              <td className="nowrap">
                {x.server}
                {x.region && <small className="muted"> {x.region}</small>}
              </td>
              <td className="num" title={x.last_scrape ? dateTime(x.last_scrape) : ""}>
                {x.last_scrape ? ago(x.last_scrape, now) : "–"}
              </td>
              <td className="num">{x.last_scrape ? seconds(x.duration_seconds ?? 0) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
