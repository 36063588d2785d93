import { Button } from "@mantine/core";
import { useMemo, useState } from "react";
import { useLocation } from "wouter";
import { RULE_STATES, useRuleGroups } from "../../api/rules";
import { Empty, Faces } from "../../components/faces";
import { SearchBox } from "../../components/SearchBox";
import { useUrl } from "../../components/useParams";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { RuleGroupCard } from "./RuleGroupCard";
import { RuleMark } from "./RuleMark";
import { RulesTabs } from "./RulesTabs";

const AT_ONCE = 100;

/** RulesPage shows all groups of the cluster with the state of their rules. */
export default function RulesPage() {
  const { t } = useT();
  const [, go] = useLocation();
  const { get, list, set } = useUrl();
  const editor = useCan("editor");
  const q = get("q");
  const states = list("state");
  const query = useRuleGroups({ q, state: states.join(",") });
  const groups = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  const counts = query.data?.pages[0]?.counts;
  const [shown, setShown] = useState(AT_ONCE);
  const filtered = q !== "" || states.length > 0;
  const toggle = (s: string) =>
    set({ state: (states.includes(s) ? states.filter((x) => x !== s) : [...states, s]).join(",") });
  return (
    <RulesTabs here="/rules">
      <div className="filters">
        <div className="filter-row">
          <SearchBox label={t("rules.search")} value={q} onChange={(v) => set({ q: v })} />
        </div>
        <div className="filter-row chips" role="group" aria-label={t("rules.state")}>
          <button
            type="button"
            className="chip"
            aria-pressed={!states.length}
            onClick={() => set({ state: "" })}
          >
            {t("filters.all")}
          </button>
          {RULE_STATES.map((s) => (
            <button
              key={s}
              type="button"
              className="chip"
              aria-pressed={states.includes(s)}
              onClick={() => toggle(s)}
            >
              <RuleMark state={s} short />
              <span aria-hidden="true">{t(`rules.state.${s}`)}</span>
              {counts && <b>{num(counts[s] ?? 0)}</b>}
            </button>
          ))}
        </div>
      </div>
      <Faces query={query} rows={6} height={64}>
        {groups.length ? (
          <>
            <ul className="rule-groups">
              {groups.slice(0, shown).map((g) => (
                <RuleGroupCard
                  key={`${g.source}/${g.name}/${g.node}`}
                  group={g}
                  q={q}
                  states={states}
                  open={filtered || groups.length <= 3}
                />
              ))}
            </ul>
            {(groups.length > shown || query.hasNextPage) && (
              <Button
                variant="default"
                loading={query.isFetchingNextPage}
                onClick={() => {
                  if (groups.length <= shown + AT_ONCE && query.hasNextPage) void query.fetchNextPage();
                  setShown(shown + AT_ONCE);
                }}
              >
                {t("common.more")}
              </Button>
            )}
          </>
        ) : filtered ? (
          <Empty
            icon="search"
            title={t("rules.nomatch")}
            text={t("checks.nomatch.text")}
            action={
              <Button variant="default" onClick={() => set({ q: "", state: "" })}>
                {t("filters.clear")}
              </Button>
            }
          />
        ) : (
          <Empty
            icon="rules"
            title={t("rules.none")}
            text={t("rules.none.text")}
            action={
              editor && (
                <div className="row centered">
                  <Button onClick={() => go("/rules/new")}>{t("rules.new")}</Button>
                  <Button variant="default" onClick={() => go("/rules/sets")}>
                    {t("rules.packs")}
                  </Button>
                </div>
              )
            }
          />
        )}
      </Faces>
    </RulesTabs>
  );
}
