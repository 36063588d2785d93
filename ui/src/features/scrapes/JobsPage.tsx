import { Button } from "@mantine/core";
import { useMemo } from "react";
import { Link, useLocation } from "wouter";
import {
  useDeleteScrape,
  usePatchScrape,
  useScrapes,
  useTargets,
  type JobProblem,
  type JobState,
  type ScrapeJob,
} from "../../api/scrapes";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { SearchBox } from "../../components/SearchBox";
import { StatusIcon } from "../../components/Status";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { sentence, useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { about } from "./config";
import { ScrapesTabs } from "./ScrapesTabs";

/** JobsPage lists the scrape jobs. */
export default function JobsPage() {
  const { t } = useT();
  const [, go] = useLocation();
  const { get, set } = useUrl();
  const editor = useCan("editor");
  const q = get("q");
  const query = useScrapes(q);
  const targets = useTargets({}).data?.pages[0];
  const states = targets?.jobs ?? [];
  const jobs = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  return (
    <ScrapesTabs here="/scrapes/jobs">
      <div className="toolbar">
        <p className="muted">{t("scrapes.jobs.intro")}</p>
        {(jobs.length > 5 || q) && (
          <SearchBox label={t("scrapes.jobs.search")} value={q} onChange={(v) => set({ q: v })} />
        )}
      </div>
      <Faces query={query} rows={4} height={64}>
        {jobs.length ? (
          <ul className="records">
            {jobs.map((j) => (
              <JobRow
                key={j.id}
                job={j}
                state={states.find((s) => s.job === j.name)}
                problems={(targets?.problems ?? []).filter((p) => p.job === j.name)}
                editor={editor}
              />
            ))}
          </ul>
        ) : (
          <Empty
            icon="target"
            title={t(q ? "scrapes.nomatch" : "scrapes.jobs.none")}
            text={q ? t("checks.nomatch.text") : t("scrapes.none.text")}
            action={editor && !q && <Button onClick={() => go("/scrapes/new")}>{t("scrapes.new")}</Button>}
          />
        )}
        {query.hasNextPage && (
          <Button variant="default" onClick={() => void query.fetchNextPage()}>
            {t("common.more")}
          </Button>
        )}
      </Faces>
    </ScrapesTabs>
  );
}

interface Row {
  job: ScrapeJob;
  state: JobState | undefined;
  problems: JobProblem[];
  editor: boolean;
}

function JobRow({ job: j, state, problems, editor }: Row) {
  const { t } = useT();
  const patch = usePatchScrape();
  const remove = useDeleteScrape();
  const href = `/scrapes/${encodeURIComponent(j.id)}`;
  const from = about(j.config);
  const paused = j.paused === true;
  const drop = async () => {
    const yes = await confirm({
      title: t("settings.delete.title", { name: j.name }),
      text: t("scrapes.delete.text"),
      action: t("common.delete"),
    });
    if (yes)
      remove.mutate(j.id, {
        onSuccess: () => toast(t("settings.deleted", { name: j.name })),
        onError: toastError,
      });
  };
  return (
    <li className={paused ? "card off" : "card"}>
      <div className="record-main">
        <Link href={`${href}/edit`}>
          <b>{j.name}</b>
        </Link>
        {paused && <span className="pill">{t("editor.paused")}</span>}
        {from.discovery.map((d) => (
          <span key={d} className="type">
            {d}
          </span>
        ))}
        {state ? (
          <Link href={`/scrapes?job=${encodeURIComponent(j.name)}`}>
            {t("scrapes.count", { n: state.active })}
          </Link>
        ) : (
          from.targets > 0 && <span className="muted">{t("scrapes.count", { n: from.targets })}</span>
        )}
        {state && state.dropped > 0 && (
          <span className="muted">{t("scrapes.dropped", { n: state.dropped })}</span>
        )}
        {j.agents && <span className="type">{t("servers.agents")}</span>}
        {j.per_region && <span className="type">{t("scrapes.perregion.short")}</span>}
        {(j.regions ?? []).filter((r) => r !== "*").length > 0 && (
          <span className="muted">{(j.regions ?? []).join(", ")}</span>
        )}
        <Labels labels={j.labels} />
        {j.description && <small className="muted">{j.description}</small>}
        {problems.map((p) => (
          <small key={p.server} className="job-problem">
            <StatusIcon status="down" size={14} />
            {t("scrapes.problem", { job: p.job, server: p.server, message: sentence(p.message) })}
          </small>
        ))}
      </div>
      <div className="record-actions">
        {editor && (
          <button
            type="button"
            className="icon-button"
            disabled={patch.isPending}
            aria-label={t(paused ? "scrapes.resume" : "scrapes.pause", { name: j.name })}
            title={t(paused ? "checks.resume" : "checks.pause")}
            onClick={() =>
              patch.mutate(
                { id: j.id, patch: { paused: paused ? null : true } },
                {
                  onSuccess: () => toast(t(paused ? "scrapes.resumed" : "scrapes.paused", { name: j.name })),
                  onError: toastError,
                },
              )
            }
          >
            <Icon name={paused ? "play" : "pause"} size={16} />
          </button>
        )}
        <Link
          href={`${href}/versions`}
          className="icon-button"
          aria-label={t("rules.versions.of", { name: j.name })}
          title={t("rules.versions")}
        >
          <Icon name="events" size={16} />
        </Link>
        {editor && (
          <>
            <Link
              href={`${href}/edit`}
              className="icon-button"
              aria-label={t("settings.edit", { name: j.name })}
              title={t("common.edit")}
            >
              <Icon name="edit" size={16} />
            </Link>
            <button
              type="button"
              className="icon-button danger"
              aria-label={t("settings.delete", { name: j.name })}
              title={t("common.delete")}
              onClick={() => void drop()}
            >
              <Icon name="trash" size={16} />
            </button>
          </>
        )}
      </div>
    </li>
  );
}
