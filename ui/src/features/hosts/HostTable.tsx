import { useMediaQuery } from "@mantine/hooks";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useLocation } from "wouter";
import type { HostRow as Host } from "../../api/hosts";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { useUrl } from "../../components/useParams";
import { useT, type Key } from "../../i18n/i18n";
import { HostRow } from "./HostRow";
import { useSparks } from "./sparks";
import { nextSort } from "./view";

interface Props {
  items: Host[];
  total: number;
  picked: ReadonlySet<string>;
  onPick: (ids: ReadonlySet<string>) => void;
  selectable: boolean;
  more: (() => void) | undefined;
}

const COLUMNS: { cell: string; label: Key; sort?: string }[] = [
  { cell: "c-status", label: "checks.status", sort: "status" },
  { cell: "c-name", label: "checks.name", sort: "name" },
  { cell: "c-m", label: "hosts.cpu", sort: "cpu" },
  { cell: "c-m", label: "hosts.memory", sort: "memory" },
  { cell: "c-m", label: "hosts.disk", sort: "disk" },
  { cell: "c-load num", label: "hosts.load", sort: "load" },
  { cell: "c-net", label: "hosts.network", sort: "network" },
  { cell: "c-spark", label: "hosts.lasthour" },
  { cell: "c-version", label: "hosts.version" },
  { cell: "c-alerts", label: "nav.alerts" },
];

/** HostTable draws only the rows in view, and asks for more before the end is reached. */
export function HostTable({ items, total, picked, onPick, selectable, more }: Props) {
  const { t } = useT();
  const [, go] = useLocation();
  const { params, get, set } = useUrl();
  const phone = useMediaQuery("(max-width: 767px)") ?? false;
  const ref = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [at, setAt] = useState(-1);
  useLayoutEffect(() => setTop(ref.current?.offsetTop ?? 0), [items.length]);
  const rows = useWindowVirtualizer({
    count: items.length,
    estimateSize: () => (phone ? 124 : 48),
    overscan: 8,
    scrollMargin: top,
  });
  const shown = rows.getVirtualItems();
  const last = shown[shown.length - 1]?.index ?? 0;
  useEffect(() => {
    if (more && last >= items.length - 20) more();
  }, [last, items.length, more]);
  const names = useMemo(() => items.map((h) => h.name), [items]);
  const sparks = useSparks(phone ? [] : names, shown[0]?.index ?? 0, last);

  const move = (d: number) => {
    const i = Math.max(0, Math.min(items.length - 1, at + d));
    setAt(i);
    rows.scrollToIndex(i, { align: "auto" });
  };
  const toggle = (id: string) => {
    const next = new Set(picked);
    if (!next.delete(id)) next.add(id);
    onPick(next);
  };
  const current = items[at];
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    enter: () => current && go(`/hosts/${encodeURIComponent(current.id)}`),
    x: () => current && selectable && toggle(current.id),
  });
  const label = (name: string, value: string) =>
    set({ label: [...params.getAll("label").filter((l) => l !== `${name}=${value}`), `${name}=${value}`] });
  const sort = get("sort");
  const order = (column: string) =>
    sort === column ? "ascending" : sort === `-${column}` ? "descending" : "none";

  return (
    <div className="table hosts" role="table" aria-label={t("nav.hosts")} aria-rowcount={total + 1}>
      <div role="rowgroup" className="thead">
        <div role="row" className="tr" aria-rowindex={1}>
          <span role="columnheader" className="c-pick">
            {selectable && (
              <input
                type="checkbox"
                aria-label={t("checks.pickall")}
                checked={picked.size > 0 && picked.size === items.length}
                onChange={(e) => onPick(new Set(e.target.checked ? items.map((h) => h.id) : []))}
              />
            )}
          </span>
          {COLUMNS.map((c) => (
            <span
              key={c.label}
              role="columnheader"
              className={c.cell}
              {...(c.sort ? { "aria-sort": order(c.sort) as "none" } : {})}
            >
              {c.sort ? (
                <button
                  type="button"
                  className="sort"
                  onClick={() => set({ sort: nextSort(sort, c.sort ?? "") })}
                >
                  {t(c.label)}
                  {order(c.sort) !== "none" && (
                    <Icon name={order(c.sort) === "ascending" ? "up" : "down"} size={11} strokeWidth={2.6} />
                  )}
                </button>
              ) : (
                t(c.label)
              )}
            </span>
          ))}
        </div>
      </div>
      <div role="rowgroup" ref={ref} style={{ height: rows.getTotalSize(), position: "relative" }}>
        {shown.map((v) => {
          const h = items[v.index];
          if (!h) return null;
          return (
            <HostRow
              key={h.id}
              host={h}
              index={v.index}
              offset={v.start - top}
              height={v.size}
              phone={phone}
              current={v.index === at}
              picked={picked.has(h.id)}
              spark={sparks.get(h.name)}
              onPick={selectable ? toggle : undefined}
              onLabel={label}
            />
          );
        })}
      </div>
    </div>
  );
}
