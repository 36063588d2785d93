import { useMediaQuery } from "@mantine/hooks";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { useLocation } from "wouter";
import type { Check } from "../../api/types";
import { useKeys } from "../../components/keys";
import { useUrl } from "../../components/useParams";
import { useT } from "../../i18n/i18n";
import { CheckRow } from "./CheckRow";

interface Props {
  items: Check[];
  total: number;
  picked: ReadonlySet<string>;
  onPick: (ids: ReadonlySet<string>) => void;
  selectable: boolean;
  more: (() => void) | undefined;
}

/** CheckTable draws only the rows in view, and asks for more before the end is reached. */
export function CheckTable({ items, total, picked, onPick, selectable, more }: Props) {
  const { t } = useT();
  const [, go] = useLocation();
  const { params, set } = useUrl();
  const phone = useMediaQuery("(max-width: 767px)") ?? false;
  const ref = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [at, setAt] = useState(-1);
  useLayoutEffect(() => setTop(ref.current?.offsetTop ?? 0), [items.length]);
  const rows = useWindowVirtualizer({
    count: items.length,
    estimateSize: () => (phone ? 104 : 48),
    overscan: 8,
    scrollMargin: top,
  });
  const shown = rows.getVirtualItems();
  const last = shown[shown.length - 1]?.index ?? 0;
  useEffect(() => {
    if (more && last >= items.length - 20) more();
  }, [last, items.length, more]);

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
    enter: () => current && go(`/checks/${current.id}`),
    e: () => current && selectable && go(`/checks/${current.id}/edit`),
    x: () => current && selectable && toggle(current.id),
  });
  const label = (name: string, value: string) =>
    set({ label: [...params.getAll("label").filter((l) => l !== `${name}:${value}`), `${name}:${value}`] });

  return (
    <div className="table checks" role="table" aria-label={t("nav.checks")} aria-rowcount={total}>
      <div role="rowgroup" className="thead">
        <div role="row" className="tr">
          <span role="columnheader" className="c-pick">
            {selectable && (
              <input
                type="checkbox"
                aria-label={t("checks.pickall")}
                checked={picked.size > 0 && picked.size === items.length}
                onChange={(e) => onPick(new Set(e.target.checked ? items.map((c) => c.id) : []))}
              />
            )}
          </span>
          <span role="columnheader" className="c-status">
            {t("checks.status")}
          </span>
          <span role="columnheader" className="c-name">
            {t("checks.name")}
          </span>
          <span role="columnheader" className="c-bars">
            {t("checks.bars")}
          </span>
          <span role="columnheader" className="c-uptime">
            {t("checks.uptime")}
          </span>
          <span role="columnheader" className="c-time">
            {t("checks.response")}
          </span>
          <span role="columnheader" className="c-since">
            {t("checks.since")}
          </span>
        </div>
      </div>
      <div role="rowgroup" ref={ref} style={{ height: rows.getTotalSize(), position: "relative" }}>
        {shown.map((v) => {
          const c = items[v.index];
          if (!c) return null;
          return (
            <CheckRow
              key={c.id}
              check={c}
              index={v.index}
              offset={v.start - top}
              height={v.size}
              phone={phone}
              current={v.index === at}
              picked={picked.has(c.id)}
              onPick={selectable ? toggle : undefined}
              onLabel={label}
            />
          );
        })}
      </div>
    </div>
  );
}
