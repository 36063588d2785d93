import { useId, useState } from "react";
import { Link } from "wouter";
import { type RuleGroup } from "../../api/rules";
import { Icon } from "../../components/icons";
import { ago, dateTime, seconds, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { RuleMark } from "./RuleMark";
import { RuleRow } from "./RuleRow";
import { byState, matching, packOf } from "./view";

interface Props {
  group: RuleGroup;
  q: string;
  states: string[];
  /** Whether it is open before anybody has touched it. */
  open: boolean;
}

const ORDER = ["broken", "firing", "pending", "unknown"] as const;

/** RuleGroupCard is one group: its head, and its rules when it is open. */
export function RuleGroupCard({ group: g, q, states, open: start }: Props) {
  const { t } = useT();
  const now = useNow();
  const id = useId();
  const [touched, setTouched] = useState<boolean | null>(null);
  const [all, setAll] = useState(false);
  const open = touched ?? start;
  const rules = g.rules ?? [];
  const found = matching(g, q, states);
  const list = all ? rules : found;
  const counts = byState(rules);
  const pack = packOf([g.name]);
  return (
    <li className="card rule-group">
      <div className="rule-group-head">
        <button
          type="button"
          className="fold"
          aria-expanded={open}
          aria-controls={id}
          onClick={() => setTouched(!open)}
        >
          <Icon name="right" size={15} className={open ? "turned" : ""} />
          <RuleMark state={g.state} short />
          <b>{g.name}</b>
        </button>
        <span className="rule-group-tally">
          {ORDER.filter((s) => counts[s]).map((s) => (
            <RuleCount key={s} state={s} n={counts[s] ?? 0} />
          ))}
          <span className="muted">{t("rules.count", { n: rules.length })}</span>
        </span>
        <span className="rule-group-facts muted">
          {g.file ? (
            <span className="type" title={t("rules.file.help")}>
              {t("rules.file", { name: g.source })}
            </span>
          ) : (
            <Link
              href={`/rules/${encodeURIComponent(g.source)}/edit`}
              className="type"
              title={t("rules.set")}
            >
              {g.source}
            </Link>
          )}
          {pack && g.source !== pack && <span className="type">{t("rules.pack")}</span>}
          {(g.server ?? g.node) && (
            <span title={t("rules.server.help")}>
              <Icon name="servers" size={13} /> {g.server ?? g.node}
            </span>
          )}
          <span>{t("rules.every", { interval: g.interval })}</span>
          <span title={g.evaluated ? dateTime(g.evaluated) : ""}>
            {g.evaluated
              ? t("rules.evaluated", { ago: ago(g.evaluated, now), took: seconds(g.took_seconds) })
              : t("rules.never")}
          </span>
        </span>
      </div>
      <div id={id} hidden={!open}>
        {open && (
          <>
            {g.error && !rules.length && <p className="stale">{sentence(g.error)}</p>}
            <ul className="rule-list">
              {list.map((r, i) => (
                <RuleRow key={`${r.name}/${i}`} rule={r} />
              ))}
            </ul>
            {(all || found.length < rules.length) && (
              <button type="button" className="link" onClick={() => setAll(!all)}>
                {all
                  ? t("rules.found", { n: found.length })
                  : t("rules.others", { n: rules.length - found.length })}
              </button>
            )}
          </>
        )}
      </div>
    </li>
  );
}

function RuleCount({ state, n }: { state: (typeof ORDER)[number]; n: number }) {
  return (
    <span className="rule-count">
      <RuleMark state={state} short /> <b>{n}</b>
    </span>
  );
}
