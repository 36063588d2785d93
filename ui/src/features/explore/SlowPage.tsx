import { useSlowQueries, type SlowQuery } from "../../api/prom";
import { Link } from "wouter";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { ago, dateTime, num, percent, seconds, span, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { encodePanels } from "../../lib/exploreUrl";
import { formatDuration } from "../../lib/time";
import { ExploreTabs } from "./ExploreTabs";

/** SlowPage lists the queries that took long lately. */
export default function SlowPage() {
  const { t } = useT();
  const query = useSlowQueries();
  const list = query.data ?? [];
  return (
    <ExploreTabs here="/explore/slow">
      <p className="muted">{t("slow.intro")}</p>
      <Faces query={query} rows={5} height={56}>
        {list.length ? (
          <ul className="slow">
            {list.map((q, i) => (
              <Slow key={i} q={q} />
            ))}
          </ul>
        ) : (
          <Empty icon="explore" title={t("slow.none")} text={t("slow.none.text")} />
        )}
      </Faces>
    </ExploreTabs>
  );
}

/** slowHref opens a query as it was asked: over the same time, explained. */
function slowHref(q: SlowQuery): string {
  return `/explore?${encodePanels([
    {
      expr: q.query ?? "",
      tab: "explain",
      range: q.range ? formatDuration(q.range * 1000) : "1h",
      end: "",
      step: q.step ? String(q.step) : "",
    },
  ]).toString()}`;
}

function Slow({ q }: { q: SlowQuery }) {
  const { t } = useT();
  const now = useNow();
  return (
    <li className="card">
      <div className="slow-head">
        <b className={q.code >= 400 ? "bad" : ""}>{seconds(q.seconds)}</b>
        <span className="muted" title={dateTime(q.at)}>
          {ago(q.at, now)}
        </span>
        <span className="muted">{q.user}</span>
        {q.server && <span className="muted">{q.server}</span>}
        {q.code >= 400 && (
          <span className="pill pill-down">{t("slow.failed", { code: String(q.code) })}</span>
        )}
        {q.query && (
          <Link href={slowHref(q)} className="row more">
            {t("check.explore")} <Icon name="right" size={13} />
          </Link>
        )}
      </div>
      <code className="slow-query">{q.query ?? q.path}</code>
      <p className="facts muted">
        {q.range ? <span>{t("slow.range", { span: span(q.range) })}</span> : null}
        {q.step ? <span>{t("slow.step", { span: span(q.step) })}</span> : null}
        <span>{t("explain.series", { n: q.series })}</span>
        <span>{t("slow.samples", { n: num(q.samples) })}</span>
        {q.peak_samples > 0 && <span>{t("slow.peak", { n: num(q.peak_samples) })}</span>}
        {q.cached > 0 && <span>{t("explain.cached", { share: percent(q.cached) })}</span>}
      </p>
    </li>
  );
}
