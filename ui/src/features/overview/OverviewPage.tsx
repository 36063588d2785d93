import { lazy, Suspense } from "react";
import { Link } from "wouter";
import { useOverview } from "../../api/overview";
import { STATUSES, type Overview } from "../../api/types";
import { EventList } from "../../components/EventList";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { StatusIcon } from "../../components/Status";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { useSession } from "../../session";
import { FleetMap } from "./FleetMap";
import { HealthCard } from "./HealthCard";
import { Worst } from "./Worst";

const HostsCard = lazy(() => import("./HostsCard"));

/** OverviewPage answers on one screen: is anything wrong, where, and since when. */
export function OverviewPage() {
  const { t } = useT();
  const query = useOverview();
  const o = query.data;
  return (
    <Page title={t("nav.overview")} heading={o ? <Headline o={o} /> : t("nav.overview")}>
      <Faces query={query} rows={5} height={120}>
        {o && (o.checks.total ? <Board o={o} /> : <FirstRun />)}
      </Faces>
    </Page>
  );
}

function Headline({ o }: { o: Overview }) {
  const { t } = useT();
  const { down = 0, degraded = 0, unknown = 0, total = 0 } = o.checks;
  const n = down || degraded || unknown;
  const loud = (o.alerts.critical ?? 0) + (o.alerts.warning ?? 0);
  const status = down
    ? "down"
    : degraded
      ? "degraded"
      : unknown
        ? "unknown"
        : loud
          ? o.alerts.critical
            ? "down"
            : "degraded"
          : total
            ? "up"
            : "pending";
  return (
    <span className="headline">
      <StatusIcon status={status} size={24} />
      {n
        ? t(`overview.${status as "down"}`, { n })
        : loud
          ? t("overview.alerts", { n: loud })
          : total
            ? t("overview.allwell")
            : t("nav.overview")}
    </span>
  );
}

function FirstRun() {
  const { t } = useT();
  return (
    <div className="stack">
      <Empty
        icon="checks"
        title={t("overview.empty.title")}
        text={t("overview.empty.text")}
        action={
          <Link href="/checks/new" className="cta">
            <Icon name="plus" />
            {t("checks.new")}
          </Link>
        }
      />
      <Hosts />
    </div>
  );
}

function Board({ o }: { o: Overview }) {
  const { t } = useT();
  return (
    <div className="board">
      <section className="card counts" aria-label={t("nav.checks")}>
        {STATUSES.map((s) => (
          <Link key={s} href={`/checks?status=${s}`} className={`count${o.checks[s] ? "" : " zero"}`}>
            <StatusIcon status={s} size={18} />
            <b>{num(o.checks[s] ?? 0)}</b>
            <span>{t(`status.${s}`)}</span>
          </Link>
        ))}
        <Link href="/checks" className="count">
          <Icon name="checks" />
          <b>{num(o.checks.total ?? 0)}</b>
          <span>{t("overview.total")}</span>
        </Link>
      </section>
      <HealthCard health={o.health} />
      <section className="card alerts-card" aria-labelledby="ov-alerts">
        <h2 id="ov-alerts">{t("nav.alerts")}</h2>
        <div className="alert-counts">
          {(["critical", "warning", "info"] as const).map((s) => (
            <Link
              key={s}
              href={`/alerts?m=${encodeURIComponent(`severity="${s}"`)}`}
              className={`sevcount sev-${s}${o.alerts[s] ? "" : " zero"}`}
            >
              <b>{num(o.alerts[s] ?? 0)}</b>
              <span>{t(`severity.${s}`)}</span>
            </Link>
          ))}
          <Link href="/silences" className={`sevcount${o.alerts.silenced ? "" : " zero"}`}>
            <b>{num(o.alerts.silenced ?? 0)}</b>
            <span>{t("alerts.silenced")}</span>
          </Link>
        </div>
      </section>
      <FleetMap />
      <section className="card worst-card" aria-labelledby="ov-worst">
        <h2 id="ov-worst">{t("overview.worst")}</h2>
        <Worst checks={o.worst ?? []} />
      </section>
      <Hosts />
      <section className="card events-card" aria-labelledby="ov-events">
        <h2 id="ov-events">
          {t("overview.events")}
          <Link href="/events" className="more">
            {t("overview.more")}
          </Link>
        </h2>
        {o.events?.length ? <EventList events={o.events} /> : <p className="muted">{t("events.none")}</p>}
      </section>
    </div>
  );
}

/** Hosts come after the page: the first load does not wait for them. */
function Hosts() {
  const { user } = useSession();
  if (user.bound) return null;
  return (
    <Suspense fallback={<div className="card hosts-card" />}>
      <HostsCard />
    </Suspense>
  );
}
