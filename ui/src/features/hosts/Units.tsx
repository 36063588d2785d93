import { useMemo, useState } from "react";
import type { HostDetail } from "../../api/hosts";
import { StatusIcon } from "../../components/Status";
import type { Status } from "../../api/types";
import { num } from "../../i18n/format";
import { tMaybe, useT } from "../../i18n/i18n";
import { useFacts, type Fact } from "./facts";
import { Restart } from "./Restart";
import { ways } from "./series";
import { Scroll } from "./tables";

const RANK = ["failed", "activating", "deactivating", "active", "inactive"];
const SIGN: Record<string, Status> = {
  failed: "down",
  activating: "degraded",
  deactivating: "degraded",
  active: "up",
  inactive: "paused",
};

interface Unit {
  name: string;
  state: string;
  type: string;
}

/** units sorts what systemd says: what failed comes first. */
export function units(facts: Fact[] | undefined): Unit[] {
  return (facts ?? [])
    .map((f) => ({ name: f.metric.name ?? "", state: f.metric.state ?? "", type: f.metric.type ?? "" }))
    .sort((a, b) => RANK.indexOf(a.state) - RANK.indexOf(b.state) || a.name.localeCompare(b.name));
}

const SHORT = 12;

export function Units({ h, at, interval }: { h: HostDetail; at: number | null; interval: number }) {
  const { t } = useT();
  const [q, setQ] = useState("");
  const [all, setAll] = useState(false);
  const w = ways(h.name, { length: 3600, end: null }, interval);
  const query = useFacts(
    "units",
    [
      ["units", `${w.sel("node_systemd_unit_state")} == 1`],
      ["restarts", `increase(${w.sel("node_systemd_service_restart_total")}[1d]) > 0`],
    ],
    at,
    30_000,
  );
  const list = useMemo(() => units(query.data?.get("units")), [query.data]);
  const restarts = new Map(
    (query.data?.get("restarts") ?? []).map((f) => [f.metric.name ?? "", Math.round(f.value)]),
  );
  if (!list.length) return null;
  const count = (s: string) => list.filter((u) => u.state === s).length;
  const failed = count("failed");
  const found = list.filter((u) => (q ? u.name.includes(q) : all || u.state !== "inactive"));
  const shown = all || q ? found.slice(0, 300) : found.filter((u, i) => u.state === "failed" || i < SHORT);
  return (
    <section className="card wide" aria-labelledby="h-units">
      <h3 id="h-units">
        systemd
        <span className="row">
          <StatusIcon status={failed ? "down" : "up"} size={14} />
          {failed ? t("hosts.units.failed", { n: failed }) : t("hosts.units.well", { n: count("active") })}
        </span>
        <input
          type="search"
          className="plain-input short more"
          aria-label={t("hosts.units.search")}
          placeholder={t("hosts.units.search")}
          value={q}
          onChange={(e) => setQ(e.target.value.trim())}
        />
      </h3>
      <Scroll label="systemd">
        <table className="plain">
          <thead>
            <tr>
              <th scope="col">{t("hosts.units.name")}</th>
              <th scope="col">{t("checks.status")}</th>
              <th scope="col" className="num">
                {t("hosts.units.restarts")}
              </th>
              <td />
            </tr>
          </thead>
          <tbody>
            {shown.map((u) => (
              <tr key={u.name}>
                <th scope="row">{u.name}</th>
                <td>
                  <span className="row">
                    <StatusIcon status={SIGN[u.state] ?? "unknown"} size={14} />
                    {tMaybe(`hosts.unit.${u.state}`) ?? u.state}
                  </span>
                </td>
                <td className="num">{num(restarts.get(u.name) ?? 0)}</td>
                <td className="num">
                  {u.name.endsWith(".service") && <Restart host={h} kind="unit" name={u.name} />}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {!q && (
        <button type="button" className="link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? t("hosts.units.less") : t("hosts.units.all", { n: list.length })}
        </button>
      )}
    </section>
  );
}
