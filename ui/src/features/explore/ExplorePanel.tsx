import { Button, TextInput } from "@mantine/core";
import { lazy, Suspense, useState } from "react";
import { Link } from "wouter";
import { useExplain, useInstant, useRange, formatQuery } from "../../api/prom";
import { Empty, Failure, Skeleton } from "../../components/faces";
import { Icon } from "../../components/icons";
import { toastError } from "../../components/toast";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import type { Panel } from "../../lib/exploreUrl";
import { formatDuration, localInput, parseDuration, parseTime, stepFor } from "../../lib/time";
import { ExplainView } from "./ExplainView";
import { ExploreGraph } from "./ExploreGraph";
import { ExploreTable } from "./ExploreTable";
import { readHistory, remember } from "./history";

const Editor = lazy(() => import("./PromEditor"));
const RANGES = ["5m", "15m", "1h", "6h", "24h", "7d", "30d"];

interface Props {
  panel: Panel;
  onChange: (change: Partial<Panel>) => void;
  onRemove: (() => void) | undefined;
}

/** ExplorePanel is one expression with its answer as a table or a graph. */
export function ExplorePanel({ panel: p, onChange, onRemove }: Props) {
  const { t } = useT();
  const editor = useCan("editor");
  const [text, setText] = useState(p.expr);
  const [seen, setSeen] = useState(p.expr);
  const [run, setRun] = useState(() => ({ at: Date.now(), n: 0 }));
  if (seen !== p.expr) {
    setSeen(p.expr);
    setText(p.expr);
  }
  const end = p.end ? parseTime(p.end, run.at) : run.at;
  const range = parseDuration(p.range) ?? 3_600_000;
  const endS = Math.floor((end ?? run.at) / 1000);
  const step = Number(p.step) || (parseDuration(p.step) ?? 0) / 1000 || stepFor(range, 250);
  const span = { start: endS - range / 1000, end: endS, step };
  const graph = useRange(p.expr, span, { enabled: p.tab === "graph", nonce: run.n });
  const table = useInstant(p.expr, p.end ? endS : null, { enabled: p.tab === "table", nonce: run.n });
  const explain = useExplain(p.expr, span, { enabled: p.tab === "explain", nonce: run.n });
  const answered = p.tab === "graph" ? graph : table;
  const query = p.tab === "explain" ? explain : answered;
  const answer = p.tab === "explain" ? undefined : answered.data;

  const execute = (expr = text) => {
    setRun((r) => ({ at: Date.now(), n: r.n + 1 }));
    if (!expr.trim()) return;
    remember(expr.trim());
    onChange({ expr: expr.trim() });
  };
  const zoom = (from: number, to: number) =>
    onChange({
      range: formatDuration(Math.max(10, Math.round(to - from)) * 1000),
      end: new Date(to * 1000).toISOString().slice(0, 19) + "Z",
    });

  return (
    <section className="card explore" aria-label={t("explore.panel")}>
      <div className="explore-bar">
        <Suspense
          fallback={
            <TextInput
              className="grow"
              aria-label={t("explore.expr")}
              value={text}
              onChange={(e) => setText(e.currentTarget.value)}
            />
          }
        >
          <Editor
            value={text}
            onChange={setText}
            onRun={execute}
            label={t("explore.expr")}
            history={readHistory}
          />
        </Suspense>
        <Button loading={query.isFetching && p.expr !== ""} onClick={() => execute()}>
          {t("explore.run")}
        </Button>
        <button
          type="button"
          className="icon-button"
          aria-label={t("explore.format")}
          title={t("explore.format")}
          onClick={() => text && formatQuery(text).then(setText).catch(toastError)}
        >
          <Icon name="events" size={16} />
        </button>
        {onRemove && (
          <button type="button" className="icon-button" aria-label={t("explore.remove")} onClick={onRemove}>
            <Icon name="trash" size={16} />
          </button>
        )}
      </div>
      <div className="explore-tools">
        <div className="segments" role="group" aria-label={t("explore.view")}>
          {(["table", "graph", "explain"] as const).map((v) => (
            <button key={v} type="button" aria-pressed={p.tab === v} onClick={() => onChange({ tab: v })}>
              {t(`explore.${v}`)}
            </button>
          ))}
        </div>
        {p.tab !== "table" && (
          <div className="segments" role="group" aria-label={t("range.label")}>
            {RANGES.map((r) => (
              <button
                key={r}
                type="button"
                aria-pressed={p.range === r}
                onClick={() => onChange({ range: r })}
              >
                {r}
              </button>
            ))}
          </div>
        )}
        <input
          type="datetime-local"
          className="plain-input"
          aria-label={t("explore.end")}
          title={t("explore.end")}
          value={p.end && end ? localInput(end) : ""}
          onChange={(e) =>
            onChange({ end: e.target.value ? new Date(e.target.value).toISOString().slice(0, 19) + "Z" : "" })
          }
        />
        {p.tab !== "table" && (
          <input
            className="plain-input short"
            aria-label={t("explore.step")}
            placeholder={t("explore.step")}
            defaultValue={p.step}
            onBlur={(e) => onChange({ step: e.target.value.trim() })}
          />
        )}
        {answer && !query.isError && (
          <small className="muted">
            {t("explore.stats", {
              n:
                answer.data.resultType === "matrix" || answer.data.resultType === "vector"
                  ? answer.data.result.length
                  : 1,
              ms: num(answer.seconds * 1000, 0),
            })}
          </small>
        )}
        {p.expr && editor && (
          <Link href={`/rules/new?expr=${encodeURIComponent(p.expr)}`} className="row more">
            <Icon name="rules" size={15} />
            {t("explore.rule")}
          </Link>
        )}
      </div>
      {!query.isError && answer && <Notes warnings={answer.warnings} infos={answer.infos} />}
      {!p.expr ? (
        <Empty
          icon="explore"
          title={t("explore.empty")}
          text={t("explore.empty.text")}
          action={<Suggestions onPick={execute} />}
        />
      ) : query.isError ? (
        <Failure compact error={query.error} retry={() => execute()} />
      ) : p.tab === "explain" ? (
        explain.data ? (
          <ExplainView x={explain.data} onPick={(expr) => execute(expr)} />
        ) : (
          <Skeleton rows={1} height={280} />
        )
      ) : !answer ? (
        <Skeleton rows={1} height={280} />
      ) : p.tab === "graph" ? (
        <ExploreGraph
          data={answer.data}
          span={span}
          onZoom={zoom}
          onReset={() => onChange({ end: "", range: "1h" })}
        />
      ) : (
        <ExploreTable data={answer.data} />
      )}
    </section>
  );
}

/** Notes are the warnings of an answer, which may make it wrong, and the hints, which do not. */
function Notes({ warnings, infos }: { warnings: string[]; infos: string[] }) {
  const { t } = useT();
  return (
    <>
      {warnings.map((w) => (
        <p key={w} className="stale" role="status">
          <b>{t("explore.warning")}</b> <span className="break">{w}</span>
        </p>
      ))}
      {infos.map((w) => (
        <p key={w} className="hint">
          <Icon name="info" size={15} /> <span className="break">{w}</span>
        </p>
      ))}
    </>
  );
}

const EXAMPLES = [
  "panoptes_check_status == 2",
  "avg by (check) (probe_duration_seconds)",
  "sum by (region) (probe_success == 0)",
  "up",
];

function Suggestions({ onPick }: { onPick: (e: string) => void }) {
  const list = [...readHistory().slice(0, 4), ...EXAMPLES].filter((e, i, a) => a.indexOf(e) === i);
  return (
    <div className="suggestions">
      {list.map((e) => (
        <button key={e} type="button" className="label mono" onClick={() => onPick(e)}>
          {e}
        </button>
      ))}
    </div>
  );
}
