import { NativeSelect } from "@mantine/core";
import { useCheckTypes, type CheckFilter } from "../../api/checks";
import { useResource } from "../../api/resources";
import { STATUSES, type Status } from "../../api/types";
import { Icon } from "../../components/icons";
import { SearchBox } from "../../components/SearchBox";
import { StatusIcon } from "../../components/Status";
import { useUrl } from "../../components/useParams";
import { num } from "../../i18n/format";
import { pick, useT } from "../../i18n/i18n";

/** filterOf reads the filter out of the address. */
export function filterOf(p: URLSearchParams): CheckFilter {
  const f: CheckFilter = {};
  for (const k of ["q", "status", "type", "region", "sort"] as const) {
    const v = p.get(k);
    if (v) f[k] = v;
  }
  const labels = p.getAll("label");
  if (labels.length) f.label = labels;
  return f;
}

export function CheckFilters({
  counts,
  total,
}: {
  counts: Partial<Record<Status, number>> | undefined;
  total: number;
}) {
  const { t } = useT();
  const { params, get, list, set } = useUrl();
  const types = useCheckTypes().data ?? [];
  const regions = useResource("regions").data ?? [];
  const statuses = list("status");
  const labels = params.getAll("label");
  const toggle = (s: Status) =>
    set({ status: (statuses.includes(s) ? statuses.filter((x) => x !== s) : [...statuses, s]).join(",") });
  return (
    <div className="filters">
      <div className="filter-row">
        <SearchBox label={t("checks.search")} value={get("q")} onChange={(q) => set({ q })} />
        <NativeSelect
          aria-label={t("checks.type")}
          value={get("type")}
          onChange={(e) => set({ type: e.currentTarget.value })}
          data={[
            { value: "", label: t("checks.alltypes") },
            ...types.map((k) => ({ value: k.name, label: pick(k.label, k.name) })),
          ]}
        />
        {regions.length > 1 && (
          <NativeSelect
            aria-label={t("checks.region")}
            value={get("region")}
            onChange={(e) => set({ region: e.currentTarget.value })}
            data={[
              { value: "", label: t("checks.allregions") },
              ...regions.map((r) => ({ value: r.name, label: r.name })),
            ]}
          />
        )}
        <NativeSelect
          aria-label={t("checks.sort")}
          value={get("sort")}
          onChange={(e) => set({ sort: e.currentTarget.value })}
          data={[
            { value: "", label: t("sort.status") },
            { value: "name", label: t("sort.name") },
            { value: "-name", label: t("sort.name.desc") },
            { value: "-since", label: t("sort.since") },
            { value: "-duration", label: t("sort.duration") },
          ]}
        />
      </div>
      <div className="filter-row chips" role="group" aria-label={t("checks.status")}>
        <button
          type="button"
          className="chip"
          aria-pressed={!statuses.length}
          onClick={() => set({ status: "" })}
        >
          {t("filters.all")} <b>{num(statuses.length ? sum(counts) || total : total)}</b>
        </button>
        {STATUSES.filter((s) => counts?.[s] || statuses.includes(s) || s === "up" || s === "down").map(
          (s) => (
            <button
              key={s}
              type="button"
              className="chip"
              aria-pressed={statuses.includes(s)}
              onClick={() => toggle(s)}
            >
              <StatusIcon status={s} size={14} />
              {t(`status.${s}`)} <b>{num(counts?.[s] ?? 0)}</b>
            </button>
          ),
        )}
        {labels.map((l) => (
          <button
            key={l}
            type="button"
            className="chip on"
            aria-label={t("filters.remove", { name: l })}
            onClick={() => set({ label: labels.filter((x) => x !== l) })}
          >
            {l.replace(":", "=")}
            <Icon name="close" size={12} />
          </button>
        ))}
      </div>
    </div>
  );
}

const sum = (c: Partial<Record<Status, number>> | undefined) =>
  Object.values(c ?? {}).reduce((a, b) => a + b, 0);
