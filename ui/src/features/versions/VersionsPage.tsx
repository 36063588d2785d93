import { Button } from "@mantine/core";
import { useMemo } from "react";
import { useLocation, useParams } from "wouter";
import type { Json, Meta } from "../../api/types";
import { useRecord, useRestore, useVersions, type Version, type Versioned } from "../../api/versions";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { ago, dateTime, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { specOf } from "../../lib/fields";
import { writeYaml } from "../../lib/yamlDoc";
import { useCan } from "../../session";
import { DiffView } from "./DiffView";
import "../../styles/platform.css";

const text = (v: Json | undefined | null) => (v ? writeYaml(v) : "");

/** VersionsPage shows what a record was, compares, and brings an old version back. */
export default function VersionsPage() {
  const { t } = useT();
  const now = useNow();
  const { id } = useParams<{ id: string }>();
  const [here, go] = useLocation();
  const kind: Versioned = here.startsWith("/scrapes") ? "scrapes" : "rules";
  const { get, set } = useUrl();
  const editor = useCan("editor");
  const record = useRecord(kind, id);
  const query = useVersions(kind, id);
  const restore = useRestore(kind);
  const list = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  const chosen = list.find((v) => v.id === get("v")) ?? list[0];
  const withNow = get("with") === "now";
  const current = record.data ? text(specOf(record.data)) : "";

  const bring = async (v: Version, r: Meta) => {
    const yes = await confirm({
      title: t("versions.restore.title", { time: dateTime(v.time) }),
      text: t("versions.restore.text"),
      action: t("versions.restore"),
      danger: false,
    });
    if (!yes || !v.after) return;
    restore.mutate(
      { id: r.id, revision: r.revision, spec: v.after },
      {
        onSuccess: () => {
          toast(t("versions.restored", { time: dateTime(v.time) }));
          set({ v: "", with: "" });
        },
        onError: toastError,
      },
    );
  };

  return (
    <Page
      title={t("rules.versions.of", { name: record.data?.name ?? list[0]?.name ?? "" })}
      back={{ href: kind === "rules" ? "/rules/sets" : "/scrapes/jobs", label: t("common.back") }}
      actions={
        editor &&
        record.data && (
          <Button
            variant="default"
            leftSection={<Icon name="edit" size={16} />}
            onClick={() => go(`/${kind}/${encodeURIComponent(id)}/edit`)}
          >
            {t("common.edit")}
          </Button>
        )
      }
    >
      <Faces query={query} rows={5} height={56}>
        {chosen ? (
          <div className="versions">
            <ol className="card version-list" aria-label={t("rules.versions")}>
              {list.map((v, i) => (
                <li key={v.id}>
                  <button
                    type="button"
                    aria-current={v.id === chosen.id ? "true" : undefined}
                    onClick={() => set({ v: i ? v.id : "" })}
                  >
                    <b title={ago(v.time, now)}>{dateTime(v.time)}</b>
                    <span className="muted">
                      {t(`versions.op.${v.op}`)}
                      {v.actor && ` · ${v.actor}`}
                    </span>
                  </button>
                </li>
              ))}
              {query.hasNextPage && (
                <li>
                  <button type="button" className="link" onClick={() => void query.fetchNextPage()}>
                    {t("common.more")}
                  </button>
                </li>
              )}
            </ol>
            <section className="card" aria-live="polite">
              <div className="toolbar">
                <div className="segments" role="group" aria-label={t("versions.compare")}>
                  <button type="button" aria-pressed={!withNow} onClick={() => set({ with: "" })}>
                    {t("versions.change")}
                  </button>
                  <button type="button" aria-pressed={withNow} onClick={() => set({ with: "now" })}>
                    {t("versions.now")}
                  </button>
                </div>
                {editor && record.data && chosen.after && text(chosen.after) !== current && (
                  <Button
                    variant="default"
                    loading={restore.isPending}
                    leftSection={<Icon name="refresh" size={15} />}
                    onClick={() => record.data && void bring(chosen, record.data)}
                  >
                    {t("versions.restore")}
                  </Button>
                )}
              </div>
              {withNow ? (
                <DiffView before={text(chosen.after)} after={current} />
              ) : (
                <DiffView before={text(chosen.before)} after={text(chosen.after)} />
              )}
            </section>
          </div>
        ) : (
          <Empty icon="events" title={t("versions.none")} text={t("versions.none.text")} />
        )}
      </Faces>
    </Page>
  );
}
