import { Button } from "@mantine/core";
import { useMemo, useState } from "react";
import { useLocation } from "wouter";
import { useChecks, useDeleteChecks, usePatchChecks } from "../../api/checks";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Page } from "../../components/Page";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { CheckFilters, filterOf } from "./CheckFilters";
import { CheckTable } from "./CheckTable";

export default function ChecksPage() {
  const { t } = useT();
  const { params, set } = useUrl();
  const [, go] = useLocation();
  const editor = useCan("editor");
  const filter = useMemo(() => filterOf(params), [params]);
  const query = useChecks(filter);
  const items = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  const total = query.data?.pages[0]?.total ?? items.length;
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const patch = usePatchChecks();
  const remove = useDeleteChecks();
  const filtered = Object.values(filter).some((v) => (Array.isArray(v) ? v.length : v)) || false;
  useKeys({ n: () => editor && go("/checks/new") });

  const pause = (paused: boolean) =>
    patch.mutate(
      { ids: [...picked], patch: { paused } },
      {
        onSuccess: () => toast(t(paused ? "checks.paused" : "checks.resumed", { n: picked.size })),
        onError: toastError,
        onSettled: () => setPicked(new Set()),
      },
    );
  const drop = async () => {
    const n = picked.size;
    const yes = await confirm({
      title: t("checks.delete.title", { n }),
      text: t("checks.delete.text"),
      action: t("common.delete"),
    });
    if (!yes) return;
    remove.mutate([...picked], {
      onSuccess: () => toast(t("checks.deleted", { n })),
      onError: toastError,
      onSettled: () => setPicked(new Set()),
    });
  };

  return (
    <Page
      title={t("nav.checks")}
      actions={
        editor && (
          <Button leftSection={<Icon name="plus" size={16} />} onClick={() => go("/checks/new")}>
            {t("checks.new")}
          </Button>
        )
      }
    >
      <CheckFilters counts={query.data?.pages[0]?.counts} total={total} />
      {picked.size > 0 && (
        <div className="bulk" role="toolbar" aria-label={t("checks.bulk")}>
          <b>{t("checks.picked", { n: picked.size })}</b>
          <Button size="xs" variant="default" loading={patch.isPending} onClick={() => pause(true)}>
            {t("checks.pause")}
          </Button>
          <Button size="xs" variant="default" loading={patch.isPending} onClick={() => pause(false)}>
            {t("checks.resume")}
          </Button>
          <Button size="xs" color="red" loading={remove.isPending} onClick={() => void drop()}>
            {t("common.delete")}
          </Button>
          <Button size="xs" variant="subtle" onClick={() => setPicked(new Set())}>
            {t("checks.unpick")}
          </Button>
        </div>
      )}
      <Faces query={query} rows={10} height={44}>
        {items.length ? (
          <CheckTable
            items={items}
            total={total}
            picked={picked}
            onPick={setPicked}
            selectable={editor}
            more={
              query.hasNextPage && !query.isFetchingNextPage ? () => void query.fetchNextPage() : undefined
            }
          />
        ) : filtered ? (
          <Empty
            icon="search"
            title={t("checks.nomatch")}
            text={t("checks.nomatch.text")}
            action={
              <Button
                variant="default"
                onClick={() => set({ q: "", status: "", type: "", region: "", label: [] })}
              >
                {t("filters.clear")}
              </Button>
            }
          />
        ) : (
          <Empty
            icon="checks"
            title={t("overview.empty.title")}
            text={t("overview.empty.text")}
            action={editor && <Button onClick={() => go("/checks/new")}>{t("checks.new")}</Button>}
          />
        )}
      </Faces>
    </Page>
  );
}
