import { NativeSelect } from "@mantine/core";
import { HOST_STATUSES, type HostStatus } from "../../api/hosts";
import { useResource } from "../../api/resources";
import { Icon } from "../../components/icons";
import { SearchBox } from "../../components/SearchBox";
import { StatusIcon } from "../../components/Status";
import { useUrl } from "../../components/useParams";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { face } from "./view";

const SORTS = ["name", "since", "cpu", "memory", "disk", "load", "network"] as const;

interface Props {
  counts: Partial<Record<HostStatus, number>> | undefined;
  total: number;
  /** Regions of the hosts that are known so far. */
  regions: string[];
}

export function HostFilters({ counts, total, regions }: Props) {
  const { t } = useT();
  const { params, get, list, set } = useUrl();
  const groups = useResource("hostgroups").data ?? [];
  const known = useResource("regions").data ?? [];
  const names = [...new Set([...known.map((r) => r.name), ...regions, get("region")])].filter(Boolean).sort();
  const statuses = list("status");
  const labels = params.getAll("label");
  const all = counts ? Object.values(counts).reduce((a, b) => a + b, 0) : total;
  const toggle = (s: HostStatus) =>
    set({ status: (statuses.includes(s) ? statuses.filter((x) => x !== s) : [...statuses, s]).join(",") });
  return (
    <div className="filters">
      <div className="filter-row">
        <SearchBox label={t("hosts.search")} value={get("q")} onChange={(q) => set({ q })} />
        {names.length > 1 && (
          <NativeSelect
            aria-label={t("checks.region")}
            value={get("region")}
            onChange={(e) => set({ region: e.currentTarget.value })}
            data={[
              { value: "", label: t("checks.allregions") },
              ...names.map((r) => ({ value: r, label: r })),
            ]}
          />
        )}
        {(groups.length > 0 || get("group")) && (
          <NativeSelect
            aria-label={t("hosts.group")}
            value={get("group")}
            onChange={(e) => set({ group: e.currentTarget.value })}
            data={[
              { value: "", label: t("hosts.allgroups") },
              ...[...new Set([...groups.map((g) => g.name), get("group")])]
                .filter(Boolean)
                .map((g) => ({ value: g, label: g })),
            ]}
          />
        )}
        <NativeSelect
          aria-label={t("checks.sort")}
          value={get("sort")}
          onChange={(e) => set({ sort: e.currentTarget.value })}
          data={[
            { value: "", label: t("hosts.sort.default") },
            ...SORTS.flatMap((s) =>
              s === "name"
                ? [
                    { value: "name", label: t("sort.name") },
                    { value: "-name", label: t("sort.name.desc") },
                  ]
                : [
                    { value: `-${s}`, label: t(`hosts.sort.${s}.desc`) },
                    { value: s, label: t(`hosts.sort.${s}`) },
                  ],
            ),
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
          {t("filters.all")} <b>{num(all)}</b>
        </button>
        {HOST_STATUSES.filter(
          (s) => counts?.[s] || statuses.includes(s) || s === "online" || s === "down",
        ).map((s) => (
          <button
            key={s}
            type="button"
            className="chip"
            aria-pressed={statuses.includes(s)}
            onClick={() => toggle(s)}
          >
            <StatusIcon status={face(s)} size={14} />
            {t(`hosts.status.${s}`)} <b>{num(counts?.[s] ?? 0)}</b>
          </button>
        ))}
        {labels.map((l) => (
          <button
            key={l}
            type="button"
            className="chip on"
            aria-label={t("filters.remove", { name: l })}
            onClick={() => set({ label: labels.filter((x) => x !== l) })}
          >
            {l}
            <Icon name="close" size={12} />
          </button>
        ))}
      </div>
    </div>
  );
}
