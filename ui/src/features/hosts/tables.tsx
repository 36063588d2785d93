import type { ReactNode } from "react";
import type { HostDetail } from "../../api/hosts";
import { StatusIcon } from "../../components/Status";
import { num, seconds, span, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { keyed, useFacts, type Fact } from "./facts";
import { Meter } from "./Meter";
import { FS_MATCH } from "./panels";
import { Restart } from "./Restart";
import { ways } from "./series";
import { iec, share } from "./view";

interface Props {
  h: HostDetail;
  at: number | null;
  interval: number;
}

/** Scroll lets a table that is wider than its card scroll, by keyboard too. */
export function Scroll({ label, children }: { label: string; children: ReactNode }) {
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="scroll-x" role="group" aria-label={label} tabIndex={0}>
      {children}
    </div>
  );
}

const plainWays = (h: HostDetail, interval: number) => ways(h.name, { length: 3600, end: null }, interval);

interface FsRow {
  mountpoint: string;
  device: string;
  fstype: string;
  size: number;
  avail: number;
  inodes: number | undefined;
  readonly: boolean;
  broken: boolean;
  /** Seconds until it is full at the pace of the last hours. */
  full: number | undefined;
}

/** fileSystems joins the facts; a device that is mounted several times counts once. */
export function fileSystems(facts: ReadonlyMap<string, Fact[]> | undefined): FsRow[] {
  const by = (name: string) => keyed(facts?.get(name), "mountpoint");
  const avail = by("avail");
  const files = by("files");
  const free = by("free");
  const ro = by("ro");
  const bad = by("bad");
  const full = by("full");
  const rows = (facts?.get("size") ?? []).map((f): FsRow => {
    const m = f.metric.mountpoint ?? "";
    const all = files.get(m) ?? 0;
    return {
      mountpoint: m,
      device: f.metric.device ?? "",
      fstype: f.metric.fstype ?? "",
      size: f.value,
      avail: avail.get(m) ?? NaN,
      inodes: all > 0 ? 1 - (free.get(m) ?? all) / all : undefined,
      readonly: ro.get(m) === 1,
      broken: bad.get(m) === 1,
      full: full.get(m),
    };
  });
  rows.sort((a, b) => a.mountpoint.length - b.mountpoint.length);
  const seen = new Set<string>();
  return rows
    .filter((r) => {
      if (!(r.size > 0)) return r.broken;
      const key = r.device.startsWith("/") ? r.device : `${r.device} ${r.mountpoint}`;
      return !seen.has(key) && seen.add(key);
    })
    .sort((a, b) => a.avail / a.size - b.avail / b.size);
}

const FORECAST = 30 * 86_400;

export function FileSystems({ h, at, interval }: Props) {
  const { t } = useT();
  const { sel } = plainWays(h, interval);
  const avail = sel("node_filesystem_avail_bytes", FS_MATCH);
  const query = useFacts(
    "fs",
    [
      ["size", sel("node_filesystem_size_bytes", FS_MATCH)],
      ["avail", avail],
      ["files", sel("node_filesystem_files", FS_MATCH)],
      ["free", sel("node_filesystem_files_free", FS_MATCH)],
      ["ro", sel("node_filesystem_readonly", FS_MATCH)],
      ["bad", sel("node_filesystem_device_error", FS_MATCH)],
      // Less than an hour says nothing about the hours to come.
      ["full", `${avail} / -(deriv(${avail}[6h]) < 0) and ${avail} offset 1h`],
    ],
    at,
    60_000,
  );
  const rows = fileSystems(query.data);
  if (!rows.length) return null;
  return (
    <section className="card wide" aria-labelledby="h-fs">
      <h3 id="h-fs">{t("hosts.fs")}</h3>
      <Scroll label={t("hosts.fs")}>
        <table className="plain">
          <thead>
            <tr>
              <th scope="col">{t("hosts.fs.mount")}</th>
              <th scope="col" className="wide-col">
                {t("hosts.n.used")}
              </th>
              <th scope="col" className="num">
                {t("hosts.n.free")}
              </th>
              <th scope="col" className="num">
                {t("hosts.n.size")}
              </th>
              <th scope="col">{t("hosts.fs.inodes")}</th>
              <th scope="col">{t("hosts.fs.full")}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((r) => (
              <tr key={r.mountpoint}>
                <th scope="row">
                  {r.mountpoint}
                  <small className="muted">
                    {r.device} · {r.fstype}
                    {r.readonly && ` · ${t("hosts.fs.readonly")}`}
                  </small>
                </th>
                <td>
                  {r.broken ? (
                    <span className="row">
                      <StatusIcon status="down" size={14} /> {t("hosts.fs.broken")}
                    </span>
                  ) : (
                    <Meter what="disk" value={1 - r.avail / r.size} label={t("hosts.n.used")} />
                  )}
                </td>
                <td className="num nowrap">{iec(r.avail)}</td>
                <td className="num nowrap">{iec(r.size)}</td>
                <td className="num">{share(r.inodes)}</td>
                <td className="nowrap">
                  {r.full === undefined || r.full > FORECAST ? (
                    <span className="muted">{t("hosts.fs.never")}</span>
                  ) : (
                    <span className="row">
                      {r.full < 3 * 86_400 && (
                        <StatusIcon status={r.full < 86_400 ? "down" : "degraded"} size={13} />
                      )}
                      {t("hosts.fs.in", { span: span(r.full) })}
                    </span>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

export function Containers({ h, at, interval }: Props) {
  const { t } = useT();
  const clock = useNow();
  const w = plainWays(h, interval);
  const named = 'name!=""';
  const query = useFacts(
    "containers",
    [
      ["cpu", `sum by (name, image) (${w.rate("container_cpu_usage_seconds_total", named)})`],
      ["memory", `sum by (name) (${w.sel("container_memory_working_set_bytes", named)})`],
      ["limit", `max by (name) (${w.sel("container_spec_memory_limit_bytes", named)}) > 0`],
      ["start", `max by (name) (${w.sel("container_start_time_seconds", named)})`],
      ["state", w.sel("panoptes_agent_container_state")],
      ["health", `${w.sel("panoptes_agent_container_health")} == 1`],
      ["restarts", w.sel("panoptes_agent_container_restarts_total")],
    ],
    at,
    15_000,
  );
  const memory = keyed(query.data?.get("memory"), "name");
  const limit = keyed(query.data?.get("limit"), "name");
  const start = keyed(query.data?.get("start"), "name");
  const restarts = keyed(query.data?.get("restarts"), "name");
  const state = new Map(
    (query.data?.get("state") ?? []).map((f) => [f.metric.name ?? "", f.metric.state ?? ""]),
  );
  const health = new Map(
    (query.data?.get("health") ?? []).map((f) => [f.metric.name ?? "", f.metric.state ?? ""]),
  );
  const cpu = keyed(query.data?.get("cpu"), "name");
  const image = new Map(
    (query.data?.get("cpu") ?? []).map((f) => [f.metric.name ?? "", f.metric.image ?? ""]),
  );
  const names = [...new Set([...cpu.keys(), ...state.keys()])].sort(
    (a, b) => (cpu.get(b) ?? -1) - (cpu.get(a) ?? -1) || a.localeCompare(b),
  );
  if (!names.length) return null;
  const now = at ?? clock / 1000;
  return (
    <section className="card wide" aria-labelledby="h-boxes">
      <h3 id="h-boxes">
        {t("hosts.s.containers")} <span className="tally">{num(names.length)}</span>
      </h3>
      <Scroll label={t("hosts.s.containers")}>
        <table className="plain">
          <thead>
            <tr>
              <th scope="col">{t("checks.name")}</th>
              <th scope="col">{t("checks.status")}</th>
              <th scope="col" className="num">
                {t("hosts.cpu")}
              </th>
              <th scope="col" className="num">
                {t("hosts.memory")}
              </th>
              <th scope="col">{t("hosts.box.limit")}</th>
              <th scope="col">{t("hosts.box.runs")}</th>
              <td />
            </tr>
          </thead>
          <tbody>
            {names.map((n) => {
              const s = state.get(n) ?? "running";
              const sick = health.get(n) === "unhealthy";
              return (
                <tr key={n}>
                  <th scope="row">
                    {n}
                    <small className="muted">{image.get(n)}</small>
                  </th>
                  <td className="nowrap">
                    <span className="row">
                      <StatusIcon status={sick ? "down" : s === "running" ? "up" : "paused"} size={14} />
                      {health.get(n) ?? s}
                    </span>
                    {!!restarts.get(n) && (
                      <small className="muted">{t("hosts.box.restarts", { n: restarts.get(n) ?? 0 })}</small>
                    )}
                  </td>
                  <td className="num">{share(cpu.get(n))}</td>
                  <td className="num nowrap">{memory.has(n) ? iec(memory.get(n) ?? NaN) : "–"}</td>
                  <td>
                    {limit.has(n) ? (
                      <Meter
                        what="memory"
                        value={(memory.get(n) ?? 0) / (limit.get(n) ?? 1)}
                        label={t("hosts.box.limit")}
                        title={iec(limit.get(n) ?? NaN)}
                      />
                    ) : (
                      <span className="muted">–</span>
                    )}
                  </td>
                  <td className="nowrap">{start.has(n) ? span(now - (start.get(n) ?? now)) : "–"}</td>
                  <td className="num">
                    <Restart host={h} kind="container" name={n} />
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

/** Mesh is how far the other hosts are from here. */
export function MeshTable({ h, at, interval }: Props) {
  const { t } = useT();
  const { sel } = plainWays(h, interval);
  const query = useFacts(
    "mesh",
    [
      ["rtt", sel("panoptes_mesh_rtt_seconds")],
      [
        "loss",
        `rate(${sel("panoptes_mesh_lost_total")}[5m]) / (rate(${sel("panoptes_mesh_sent_total")}[5m]) > 0)`,
      ],
    ],
    at,
    15_000,
  );
  const loss = query.data?.get("loss") ?? [];
  const rtt = keyed(query.data?.get("rtt"), "peer");
  const peers = [
    ...new Map(
      [...loss, ...(query.data?.get("rtt") ?? [])].map((f) => [f.metric.peer ?? "", f.metric]),
    ).values(),
  ].sort((a, b) => (a.peer ?? "").localeCompare(b.peer ?? ""));
  const lost = keyed(loss, "peer");
  if (!peers.length) return null;
  return (
    <section className="card wide" aria-labelledby="h-mesh">
      <h3 id="h-mesh">{t("hosts.mesh.table")}</h3>
      <Scroll label={t("hosts.mesh.table")}>
        <table className="plain">
          <thead>
            <tr>
              <th scope="col">{t("hosts.mesh.peer")}</th>
              <th scope="col" className="num">
                {t("hosts.mesh.rtt")}
              </th>
              <th scope="col">{t("hosts.mesh.loss")}</th>
            </tr>
          </thead>
          <tbody>
            {peers.map((m) => {
              const part = lost.get(m.peer ?? "") ?? 0;
              return (
                <tr key={m.peer}>
                  <th scope="row">
                    {m.peer} <small className="muted">{m.peer_region}</small>
                  </th>
                  <td className="num nowrap">{seconds(rtt.get(m.peer ?? "") ?? NaN)}</td>
                  <td>
                    <span className="row">
                      <StatusIcon status={part >= 0.5 ? "down" : part > 0.02 ? "degraded" : "up"} size={13} />
                      {share(part)}
                    </span>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

/** Storage is what disks, arrays and pools say of themselves. */
export function Storage({ h, at, interval }: Props) {
  const { t } = useT();
  const { sel } = plainWays(h, interval);
  const long = (m: string) => `last_over_time(${sel(m)}[2h])`;
  const query = useFacts(
    "storage",
    [
      ["info", long("smartctl_device")],
      ["ok", long("smartctl_device_smart_status")],
      ["temp", long("smartctl_device_temperature")],
      ["worn", long("smartctl_device_percentage_used")],
      ["errors", long("smartctl_device_media_errors")],
      ["hours", long("smartctl_device_power_on_seconds")],
      ["need", sel("node_md_disks_required")],
      ["have", `sum by (device) (${sel("node_md_disks", 'state="active"')})`],
      ["failed", `sum by (device) (${sel("node_md_disks", 'state="failed"')})`],
      ["blocks", sel("node_md_blocks")],
      ["synced", sel("node_md_blocks_synced")],
      ["pool", `${sel("node_zfs_zpool_state")} == 1`],
    ],
    at,
    60_000,
  );
  const by = (k: string) => keyed(query.data?.get(k), "device");
  const temp = by("temp");
  const worn = by("worn");
  const errors = by("errors");
  const hours = by("hours");
  const info = new Map((query.data?.get("info") ?? []).map((f) => [f.metric.device ?? "", f.metric]));
  const disks = query.data?.get("ok") ?? [];
  const have = by("have");
  const failed = by("failed");
  const blocks = by("blocks");
  const synced = by("synced");
  const arrays = query.data?.get("need") ?? [];
  const pools = query.data?.get("pool") ?? [];
  if (!disks.length && !arrays.length && !pools.length) return null;
  return (
    <section className="card wide" aria-labelledby="h-storage">
      <h3 id="h-storage">{t("hosts.storage")}</h3>
      <ul className="lines">
        {disks.map((d) => {
          const id = d.metric.device ?? "";
          const w = worn.get(id);
          const bad = d.value !== 1;
          const poor = !!errors.get(id) || (w !== undefined && w >= 90);
          return (
            <li key={`d${id}`}>
              <span className="row">
                <StatusIcon status={bad ? "down" : poor ? "degraded" : "up"} size={15} />
                <b>{id}</b>
                <span>{t(bad ? "hosts.smart.bad" : "hosts.smart.ok")}</span>
              </span>
              <span className="facts muted">
                <span>{info.get(id)?.model_name}</span>
                {temp.has(id) && <span>{num(temp.get(id) ?? 0, 0)} °C</span>}
                {w !== undefined && <span>{t("hosts.smart.worn", { share: `${num(w, 0)} %` })}</span>}
                {!!errors.get(id) && <span>{t("hosts.smart.errors", { n: errors.get(id) ?? 0 })}</span>}
                {hours.has(id) && <span>{t("hosts.smart.age", { span: span(hours.get(id) ?? 0) })}</span>}
              </span>
            </li>
          );
        })}
        {arrays.map((a) => {
          const id = a.metric.device ?? "";
          const n = have.get(id) ?? 0;
          const part = (synced.get(id) ?? 1) / (blocks.get(id) ?? 1);
          return (
            <li key={`m${id}`}>
              <span className="row">
                <StatusIcon status={n < a.value ? "down" : part < 1 ? "degraded" : "up"} size={15} />
                <b>{id}</b>
                <span>{t("hosts.md", { n, need: a.value })}</span>
              </span>
              <span className="facts muted">
                {!!failed.get(id) && <span>{t("hosts.md.failed", { n: failed.get(id) ?? 0 })}</span>}
                {part < 1 && <span>{t("hosts.md.sync", { share: share(part) })}</span>}
              </span>
            </li>
          );
        })}
        {pools.map((p) => (
          <li key={`z${p.metric.zpool ?? ""}`}>
            <span className="row">
              <StatusIcon
                status={
                  p.metric.state === "online" ? "up" : p.metric.state === "degraded" ? "degraded" : "down"
                }
                size={15}
              />
              <b>{p.metric.zpool}</b>
              <span>ZFS · {p.metric.state}</span>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** TimeSync says whether the clock is kept right, in words. */
export function TimeSync({ h, at, interval }: Props) {
  const { t } = useT();
  const { sel } = plainWays(h, interval);
  const query = useFacts(
    "time",
    [
      ["sync", sel("node_timex_sync_status")],
      ["offset", sel("node_timex_offset_seconds")],
      ["error", sel("node_timex_maxerror_seconds")],
    ],
    at,
    30_000,
  );
  const sync = query.data?.get("sync")?.[0]?.value;
  if (sync === undefined) return null;
  const error = query.data?.get("error")?.[0]?.value ?? NaN;
  return (
    <section className="card" aria-label={t("hosts.s.time")}>
      <p className="row">
        <StatusIcon status={sync === 1 ? "up" : "degraded"} size={18} />
        <b>{t(sync === 1 ? "hosts.sync.yes" : "hosts.sync.no")}</b>
      </p>
      {Number.isFinite(error) && sync === 1 && (
        <p className="muted">{t("hosts.sync.error", { error: seconds(error) })}</p>
      )}
      {sync !== 1 && <p className="muted">{t("hosts.sync.help")}</p>}
    </section>
  );
}
