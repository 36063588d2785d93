import { Button } from "@mantine/core";
import { lazy, Suspense, useMemo, useState } from "react";
import { Link } from "wouter";
import { useNodes } from "../../api/cluster";
import { useHosts } from "../../api/hosts";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Page } from "../../components/Page";
import { useUrl } from "../../components/useParams";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import "../../styles/hosts.css";
import { BulkBar } from "./BulkBar";
import { HostFilters } from "./HostFilters";
import { HostTable } from "./HostTable";
import { filterOf } from "./view";

const AddNode = lazy(() => import("../servers/AddNode"));

export default function HostsPage() {
  const { t } = useT();
  const { params, set } = useUrl();
  const admin = useCan("admin");
  const filter = useMemo(() => filterOf(params), [params]);
  const query = useHosts(filter);
  const items = useMemo(() => query.data?.pages.flatMap((p) => p.items ?? []) ?? [], [query.data]);
  const total = query.data?.pages[0]?.total ?? items.length;
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [add, setAdd] = useState(params.has("new"));
  const filtered = Object.keys(filter).some((k) => k !== "sort");
  const regions = useMemo(() => [...new Set(items.map((h) => h.region))], [items]);
  const known = useMemo(
    () => [...new Set(items.filter((h) => picked.has(h.id)).flatMap((h) => Object.keys(h.labels ?? {})))],
    [items, picked],
  );
  useKeys({ n: () => admin && setAdd(true) });
  const close = () => {
    setAdd(false);
    if (params.has("new")) set({ new: "" });
    void query.refetch();
  };
  return (
    <Page
      title={t("nav.hosts")}
      actions={
        <>
          <Link href="/hosts/groups" className="plain-button">
            <Icon name="settings" size={16} />
            {t("hosts.groups")}
          </Link>
          {admin && (
            <Button leftSection={<Icon name="plus" size={16} />} onClick={() => setAdd(true)}>
              {t("hosts.add")}
            </Button>
          )}
        </>
      }
    >
      <HostFilters counts={query.data?.pages[0]?.counts} total={total} regions={regions} />
      {picked.size > 0 && (
        <BulkBar
          picked={picked}
          known={known}
          name={(id) => items.find((h) => h.id === id)?.name ?? id}
          onClear={() => setPicked(new Set())}
        />
      )}
      <Faces query={query} rows={10} height={44}>
        {items.length ? (
          <HostTable
            items={items}
            total={total}
            picked={picked}
            onPick={setPicked}
            selectable={admin}
            more={
              query.hasNextPage && !query.isFetchingNextPage ? () => void query.fetchNextPage() : undefined
            }
          />
        ) : filtered ? (
          <Empty
            icon="search"
            title={t("hosts.nomatch")}
            text={t("checks.nomatch.text")}
            action={
              <Button
                variant="default"
                onClick={() => set({ q: "", status: "", region: "", group: "", label: [] })}
              >
                {t("filters.clear")}
              </Button>
            }
          />
        ) : (
          <Empty
            icon="host"
            title={t("hosts.none")}
            text={t("hosts.none.text")}
            action={admin && <Button onClick={() => setAdd(true)}>{t("hosts.add")}</Button>}
          />
        )}
      </Faces>
      {add && admin && <Add onClose={close} />}
    </Page>
  );
}

function Add({ onClose }: { onClose: () => void }) {
  const nodes = useNodes();
  if (!nodes.data) return null;
  return (
    <Suspense fallback={null}>
      <AddNode nodes={nodes.data} start="agent" onClose={onClose} />
    </Suspense>
  );
}
