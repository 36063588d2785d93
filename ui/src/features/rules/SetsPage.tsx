import { Button, Switch } from "@mantine/core";
import { copy } from "../../components/clipboard";
import { useMemo } from "react";
import { Link, useLocation } from "wouter";
import { useDeleteRules, usePatchRules, useRuleSets, type RuleSet } from "../../api/rules";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { SearchBox } from "../../components/SearchBox";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { dateTime } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { RulesTabs } from "./RulesTabs";
import { groupNames, packOf, PACKS, rulesOf } from "./view";

/** SetsPage lists the records of rules, and the packs that come with the program. */
export default function SetsPage() {
  const { t } = useT();
  const [, go] = useLocation();
  const { get, set } = useUrl();
  const editor = useCan("editor");
  const q = get("q");
  const query = useRuleSets(q);
  const sets = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  const there = new Set(sets.map((s) => packOf(groupNames(s))));
  const missing = PACKS.filter((p) => !there.has(p));
  return (
    <RulesTabs here="/rules/sets">
      <div className="toolbar">
        <p className="muted">{t("rules.sets.intro")}</p>
        {(sets.length > 5 || q) && (
          <SearchBox label={t("rules.sets.search")} value={q} onChange={(v) => set({ q: v })} />
        )}
      </div>
      <Faces query={query} rows={4} height={64}>
        {sets.length ? (
          <ul className="records">
            {sets.map((s) => (
              <SetRow key={s.id} set={s} editor={editor} />
            ))}
          </ul>
        ) : (
          <Empty
            icon="rules"
            title={t(q ? "rules.nomatch" : "rules.sets.none")}
            action={editor && !q && <Button onClick={() => go("/rules/new")}>{t("rules.new")}</Button>}
          />
        )}
        {query.hasNextPage && (
          <Button variant="default" onClick={() => void query.fetchNextPage()}>
            {t("common.more")}
          </Button>
        )}
      </Faces>
      {!q && query.data && missing.length > 0 && (
        <section className="card" aria-labelledby="rule-packs">
          <h2 id="rule-packs">{t("rules.packs")}</h2>
          <p className="muted">{t("rules.packs.intro")}</p>
          <ul className="lines packs">
            {missing.map((p) => (
              <Pack key={p} name={p} />
            ))}
          </ul>
        </section>
      )}
    </RulesTabs>
  );
}

function Pack({ name }: { name: (typeof PACKS)[number] }) {
  const { t } = useT();
  const command = `panoptes rules pack ${name} --record | panoptes apply -f -`;
  return (
    <li>
      <div>
        <b>{name}</b> <span className="muted">{t(`rules.pack.${name}`)}</span>
      </div>
      <span className="command">
        <code>{command}</code>
        <button
          type="button"
          className="icon-button"
          aria-label={t("rules.pack.copy", { name })}
          onClick={() => void copy(command)}
        >
          <Icon name="copy" size={15} />
        </button>
      </span>
    </li>
  );
}

function SetRow({ set: s, editor }: { set: RuleSet; editor: boolean }) {
  const { t } = useT();
  const patch = usePatchRules();
  const remove = useDeleteRules();
  const href = `/rules/${encodeURIComponent(s.id)}`;
  const pack = packOf(groupNames(s));
  const drop = async () => {
    const yes = await confirm({
      title: t("settings.delete.title", { name: s.name }),
      text: t("rules.delete.text"),
      action: t("common.delete"),
    });
    if (yes)
      remove.mutate(s.id, {
        onSuccess: () => toast(t("settings.deleted", { name: s.name })),
        onError: toastError,
      });
  };
  return (
    <li className={s.disabled ? "card off" : "card"}>
      <div className="record-main">
        <Link href={`${href}/edit`}>
          <b>{s.name}</b>
        </Link>
        {pack && <span className="type">{t("rules.pack")}</span>}
        <span className="muted">
          {t("rules.set.counts", {
            groups: t("rules.groups", { n: s.groups?.length ?? 0 }),
            rules: t("rules.count", { n: rulesOf(s) }),
          })}
        </span>
        <Labels labels={s.labels} />
        {s.updated_at && (
          <small className="muted">{t("rules.set.changed", { time: dateTime(s.updated_at, false) })}</small>
        )}
      </div>
      <div className="record-actions">
        <Switch
          size="sm"
          aria-label={t("rules.set.on", { name: s.name })}
          checked={!s.disabled}
          disabled={!editor || patch.isPending}
          onChange={(e) =>
            patch.mutate(
              { id: s.id, patch: { disabled: e.currentTarget.checked ? null : true } },
              { onError: toastError },
            )
          }
        />
        <Link
          href={`${href}/versions`}
          className="icon-button"
          aria-label={t("rules.versions.of", { name: s.name })}
          title={t("rules.versions")}
        >
          <Icon name="events" size={16} />
        </Link>
        {editor && (
          <>
            <Link
              href={`${href}/edit`}
              className="icon-button"
              aria-label={t("settings.edit", { name: s.name })}
              title={t("common.edit")}
            >
              <Icon name="edit" size={16} />
            </Link>
            <button
              type="button"
              className="icon-button danger"
              aria-label={t("settings.delete", { name: s.name })}
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
