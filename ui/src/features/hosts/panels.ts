import { tMaybe } from "../../i18n/i18n";
import { num, seconds } from "../../i18n/format";
import type { Row, Ways } from "./series";
import { iec, rate, share, si } from "./view";

/** What the charts of a host show. Names are node_exporter's. */

export interface Query {
  expr: (w: Ways) => string;
  /** The line's name: a key of the catalogue, or made from the labels. */
  name: string | ((m: Record<string, string>) => string);
  /** Drawn below zero: what goes out beside what comes in. */
  below?: boolean;
}
export interface Panel {
  id: string;
  section: SectionName;
  /** Any of these metrics must be there. */
  needs: string[];
  queries: Query[];
  unit: (v: number) => string;
  stacked?: boolean;
  /** The axis reaches at least this far, and no farther than cap. */
  min?: number;
  cap?: number;
  limit?: number;
  order?: string[];
  /** Left out when it is there but empty, such as swap that a host has not. */
  optional?: boolean;
}
export const SECTIONS = [
  "cpu",
  "memory",
  "disk",
  "network",
  "processes",
  "services",
  "containers",
  "sensors",
  "gpu",
  "mesh",
  "time",
] as const;
export type SectionName = (typeof SECTIONS)[number];

const label = (k: string) => (m: Record<string, string>) => m[k] ?? "";
const dev = label("device");
const REAL_NET = 'device!~"lo|veth.*|cali.*|cni.*|tap.*|dummy.*|ifb.*"';
const REAL_DISK = 'device!~"(loop|ram|zram|sr|fd|dm-).*"';
const REAL_FS = 'fstype!~"tmpfs|devtmpfs|ramfs|squashfs|iso9660|fuse.lxcfs|nsfs"';
export const FS_MATCH = REAL_FS;

export const PANELS: Panel[] = [
  {
    id: "cpu",
    section: "cpu",
    needs: ["node_cpu_seconds_total"],
    queries: [
      {
        expr: (w) => `avg by (mode) (${w.rate("node_cpu_seconds_total", 'mode!~"idle|guest.*"')})`,
        name: label("mode"),
      },
    ],
    unit: share,
    stacked: true,
    min: 0.1,
    cap: 1,
    order: ["system", "user", "nice", "iowait", "irq", "softirq", "interrupt", "dpc", "steal"],
  },
  {
    id: "cores",
    section: "cpu",
    needs: ["node_cpu_seconds_total"],
    queries: [
      {
        expr: (w) => `1 - sum by (cpu) (${w.rate("node_cpu_seconds_total", 'mode=~"idle|iowait"')})`,
        name: (m) => `CPU ${m.cpu ?? ""}`,
      },
    ],
    unit: share,
    min: 0.1,
    cap: 1,
    limit: 64,
  },
  {
    id: "load",
    section: "cpu",
    needs: ["node_load1"],
    queries: [
      { expr: (w) => w.gauge("node_load1"), name: "hosts.n.1m" },
      { expr: (w) => w.gauge("node_load5"), name: "hosts.n.5m" },
      { expr: (w) => w.gauge("node_load15"), name: "hosts.n.15m" },
    ],
    unit: (v) => num(v, 2),
    min: 1,
  },
  {
    id: "psi",
    section: "cpu",
    needs: ["node_pressure_cpu_waiting_seconds_total"],
    queries: [
      { expr: (w) => w.rate("node_pressure_cpu_waiting_seconds_total"), name: "hosts.n.psi.cpu" },
      { expr: (w) => w.rate("node_pressure_io_waiting_seconds_total"), name: "hosts.n.psi.io" },
      { expr: (w) => w.rate("node_pressure_memory_waiting_seconds_total"), name: "hosts.n.psi.memory" },
      { expr: (w) => w.rate("node_pressure_io_stalled_seconds_total"), name: "hosts.n.psi.iofull" },
      { expr: (w) => w.rate("node_pressure_memory_stalled_seconds_total"), name: "hosts.n.psi.memoryfull" },
    ],
    unit: share,
    min: 0.02,
    cap: 1,
  },
  {
    id: "switches",
    section: "cpu",
    needs: ["node_context_switches_total"],
    queries: [
      { expr: (w) => w.rate("node_context_switches_total"), name: "hosts.n.switches" },
      { expr: (w) => w.rate("node_intr_total"), name: "hosts.n.interrupts" },
    ],
    unit: (v) => si(v, "/s"),
  },
  {
    id: "frequency",
    section: "cpu",
    needs: ["node_cpu_scaling_frequency_hertz", "node_cpu_frequency_avg_hertz"],
    queries: [
      { expr: (w) => `avg(${w.gauge("node_cpu_scaling_frequency_hertz")})`, name: "hosts.n.mean" },
      { expr: (w) => `max(${w.gauge("node_cpu_scaling_frequency_hertz")})`, name: "hosts.n.max" },
      { expr: (w) => `max(${w.gauge("node_cpu_frequency_avg_hertz")})`, name: "hosts.n.mean" },
    ],
    unit: (v) => si(v, "Hz"),
  },
  {
    id: "memory",
    section: "memory",
    needs: ["node_memory_MemTotal_bytes"],
    queries: [
      {
        expr: (w) =>
          `${w.gauge("node_memory_MemTotal_bytes")} - ${w.gauge("node_memory_MemAvailable_bytes")}`,
        name: "hosts.n.used",
      },
      {
        expr: (w) =>
          `${w.gauge("node_memory_MemAvailable_bytes")} - ${w.gauge("node_memory_MemFree_bytes")} > 0`,
        name: "hosts.n.cache",
      },
      { expr: (w) => w.gauge("node_memory_MemFree_bytes"), name: "hosts.n.free" },
    ],
    unit: iec,
    stacked: true,
  },
  {
    id: "swap",
    section: "memory",
    needs: ["node_memory_SwapTotal_bytes"],
    optional: true,
    queries: [
      {
        expr: (w) =>
          `(${w.gauge("node_memory_SwapTotal_bytes")} > 0) - ${w.gauge("node_memory_SwapFree_bytes")}`,
        name: "hosts.n.used",
      },
      { expr: (w) => `${w.gauge("node_memory_SwapTotal_bytes")} > 0`, name: "hosts.n.size" },
    ],
    unit: iec,
    min: 1024 * 1024,
  },
  {
    id: "paging",
    section: "memory",
    needs: ["node_vmstat_pgmajfault"],
    queries: [
      { expr: (w) => w.rate("node_vmstat_pgmajfault"), name: "hosts.n.majorfaults" },
      { expr: (w) => w.rate("node_vmstat_pswpin"), name: "hosts.n.swapin" },
      { expr: (w) => w.rate("node_vmstat_pswpout"), name: "hosts.n.swapout", below: true },
      { expr: (w) => `${w.rate("node_vmstat_oom_kill")} > 0`, name: "hosts.n.oom" },
    ],
    unit: (v) => si(v, "/s"),
    min: 1,
  },
  {
    id: "fs",
    section: "disk",
    needs: ["node_filesystem_avail_bytes"],
    queries: [
      {
        expr: (w) =>
          `max by (device, mountpoint) (1 - ${w.gauge("node_filesystem_avail_bytes", REAL_FS)} / ${w.gauge("node_filesystem_size_bytes", REAL_FS)})`,
        name: label("mountpoint"),
      },
    ],
    unit: share,
    min: 0.1,
    cap: 1,
    limit: 12,
  },
  {
    id: "io",
    section: "disk",
    needs: ["node_disk_read_bytes_total"],
    queries: [
      {
        expr: (w) => w.rate("node_disk_read_bytes_total", REAL_DISK),
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.read") ?? ""}`,
      },
      {
        expr: (w) => w.rate("node_disk_written_bytes_total", REAL_DISK),
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.write") ?? ""}`,
        below: true,
      },
    ],
    unit: rate,
    min: 1000,
    limit: 16,
  },
  {
    id: "latency",
    section: "disk",
    needs: ["node_disk_read_time_seconds_total"],
    queries: [
      {
        expr: (w) =>
          `${w.rate("node_disk_read_time_seconds_total", REAL_DISK)} / (${w.rate("node_disk_reads_completed_total", REAL_DISK)} > 0)`,
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.read") ?? ""}`,
      },
      {
        expr: (w) =>
          `${w.rate("node_disk_write_time_seconds_total", REAL_DISK)} / (${w.rate("node_disk_writes_completed_total", REAL_DISK)} > 0)`,
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.write") ?? ""}`,
      },
    ],
    unit: seconds,
    min: 0.001,
    limit: 16,
  },
  {
    id: "busy",
    section: "disk",
    needs: ["node_disk_io_time_seconds_total"],
    queries: [{ expr: (w) => w.rate("node_disk_io_time_seconds_total", REAL_DISK), name: dev }],
    unit: share,
    min: 0.05,
    cap: 1,
    limit: 12,
  },
  {
    id: "iops",
    section: "disk",
    needs: ["node_disk_reads_completed_total"],
    queries: [
      {
        expr: (w) => w.rate("node_disk_reads_completed_total", REAL_DISK),
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.read") ?? ""}`,
      },
      {
        expr: (w) => w.rate("node_disk_writes_completed_total", REAL_DISK),
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.write") ?? ""}`,
        below: true,
      },
    ],
    unit: (v) => si(v, "/s"),
    min: 1,
    limit: 16,
  },
  {
    id: "net",
    section: "network",
    needs: ["node_network_receive_bytes_total"],
    queries: [
      {
        expr: (w) => w.rate("node_network_receive_bytes_total", REAL_NET),
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.in") ?? ""}`,
      },
      {
        expr: (w) => w.rate("node_network_transmit_bytes_total", REAL_NET),
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.out") ?? ""}`,
        below: true,
      },
    ],
    unit: rate,
    min: 1000,
    limit: 16,
  },
  {
    id: "neterrors",
    section: "network",
    needs: ["node_network_receive_errs_total"],
    queries: [
      {
        expr: (w) =>
          `sum by (device) (${w.rate("node_network_receive_errs_total", REAL_NET)} + ${w.rate("node_network_transmit_errs_total", REAL_NET)})`,
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.errors") ?? ""}`,
      },
      {
        expr: (w) =>
          `sum by (device) (${w.rate("node_network_receive_drop_total", REAL_NET)} + ${w.rate("node_network_transmit_drop_total", REAL_NET)})`,
        name: (m) => `${dev(m)} ${tMaybe("hosts.n.drops") ?? ""}`,
      },
    ],
    unit: (v) => si(v, "/s"),
    min: 1,
    limit: 16,
  },
  {
    id: "tcp",
    section: "network",
    needs: ["node_tcp_connection_states"],
    queries: [
      {
        expr: (w) =>
          `${w.gauge("node_tcp_connection_states", 'state!~"rx_queued_bytes|tx_queued_bytes"')} > 0`,
        name: label("state"),
      },
    ],
    unit: (v) => si(v),
    min: 4,
  },
  {
    id: "retrans",
    section: "network",
    needs: ["node_netstat_Tcp_RetransSegs"],
    queries: [
      {
        expr: (w) =>
          `${w.rate("node_netstat_Tcp_RetransSegs")} / (${w.rate("node_netstat_Tcp_OutSegs")} > 0)`,
        name: "hosts.n.retrans",
      },
    ],
    unit: share,
    min: 0.01,
    cap: 1,
  },
  {
    id: "conntrack",
    section: "network",
    needs: ["node_nf_conntrack_entries"],
    queries: [
      {
        expr: (w) =>
          `${w.gauge("node_nf_conntrack_entries")} / ${w.gauge("node_nf_conntrack_entries_limit")}`,
        name: "hosts.n.oflimit",
      },
    ],
    unit: share,
    min: 0.02,
    cap: 1,
  },
  {
    id: "toptime",
    section: "processes",
    needs: ["panoptes_agent_process_cpu_seconds_total"],
    queries: [{ expr: (w) => w.rate("panoptes_agent_process_cpu_seconds_total"), name: label("name") }],
    unit: share,
    stacked: true,
    min: 0.05,
    limit: 10,
  },
  {
    id: "topmemory",
    section: "processes",
    needs: ["panoptes_agent_process_resident_bytes"],
    queries: [{ expr: (w) => w.gauge("panoptes_agent_process_resident_bytes"), name: label("name") }],
    unit: iec,
    stacked: true,
    limit: 10,
  },
  {
    id: "states",
    section: "processes",
    needs: ["node_procs_running"],
    queries: [
      { expr: (w) => w.gauge("node_procs_running"), name: "hosts.n.running" },
      { expr: (w) => w.gauge("node_procs_blocked"), name: "hosts.n.blocked" },
    ],
    unit: (v) => si(v),
    min: 4,
  },
  {
    id: "tasks",
    section: "processes",
    needs: ["node_processes_pids"],
    queries: [
      { expr: (w) => w.gauge("node_processes_pids"), name: "hosts.n.processes" },
      { expr: (w) => w.gauge("node_processes_threads"), name: "hosts.n.threads" },
      { expr: (w) => w.gauge("node_filefd_allocated"), name: "hosts.n.files" },
    ],
    unit: (v) => si(v),
  },
  {
    id: "boxcpu",
    section: "containers",
    needs: ["container_cpu_usage_seconds_total"],
    queries: [
      {
        expr: (w) => `sum by (name) (${w.rate("container_cpu_usage_seconds_total", 'name!=""')})`,
        name: label("name"),
      },
    ],
    unit: share,
    stacked: true,
    min: 0.05,
    limit: 12,
  },
  {
    id: "boxmemory",
    section: "containers",
    needs: ["container_memory_working_set_bytes"],
    queries: [
      {
        expr: (w) => `sum by (name) (${w.gauge("container_memory_working_set_bytes", 'name!=""')})`,
        name: label("name"),
      },
    ],
    unit: iec,
    stacked: true,
    limit: 12,
  },
  {
    id: "boxnet",
    section: "containers",
    needs: ["container_network_receive_bytes_total"],
    queries: [
      {
        expr: (w) => `sum by (name) (${w.rate("container_network_receive_bytes_total", 'name!=""')})`,
        name: (m) => `${m.name ?? ""} ${tMaybe("hosts.n.in") ?? ""}`,
      },
      {
        expr: (w) => `sum by (name) (${w.rate("container_network_transmit_bytes_total", 'name!=""')})`,
        name: (m) => `${m.name ?? ""} ${tMaybe("hosts.n.out") ?? ""}`,
        below: true,
      },
    ],
    unit: rate,
    min: 1000,
    limit: 16,
  },
  {
    id: "temperature",
    section: "sensors",
    needs: ["node_hwmon_temp_celsius", "node_thermal_zone_temp"],
    queries: [
      {
        expr: (w) => w.gauge("node_hwmon_temp_celsius"),
        name: (m) => `${(m.chip ?? "").replace(/^platform_|^pci\w+_/, "")} ${m.sensor ?? ""}`,
      },
      { expr: (w) => w.gauge("node_thermal_zone_temp"), name: (m) => m.type ?? m.zone ?? "" },
    ],
    unit: (v) => `${num(v, 0)} °C`,
    limit: 16,
  },
  {
    id: "fans",
    section: "sensors",
    needs: ["node_hwmon_fan_rpm"],
    queries: [{ expr: (w) => w.gauge("node_hwmon_fan_rpm"), name: (m) => m.sensor ?? "" }],
    unit: (v) => `${num(v, 0)} rpm`,
  },
  {
    id: "power",
    section: "sensors",
    needs: ["node_rapl_package_joules_total", "node_power_supply_power_watt"],
    queries: [
      {
        expr: (w) => w.rate("node_rapl_package_joules_total"),
        name: (m) => m.path?.split("/").pop() ?? m.index ?? "CPU",
      },
      { expr: (w) => w.gauge("node_power_supply_power_watt"), name: (m) => m.power_supply ?? "" },
    ],
    unit: (v) => `${num(v, 1)} W`,
  },
  {
    id: "battery",
    section: "sensors",
    needs: ["node_power_supply_capacity"],
    queries: [
      { expr: (w) => `${w.gauge("node_power_supply_capacity")} / 100`, name: (m) => m.power_supply ?? "" },
    ],
    unit: share,
    cap: 1,
    min: 1,
  },
  {
    id: "gpu",
    section: "gpu",
    needs: ["nvidia_smi_utilization_gpu_ratio", "node_drm_gpu_busy_percent"],
    queries: [
      { expr: (w) => w.gauge("nvidia_smi_utilization_gpu_ratio"), name: (m) => (m.uuid ?? "").slice(0, 12) },
      { expr: (w) => `${w.gauge("node_drm_gpu_busy_percent")} / 100`, name: label("card") },
    ],
    unit: share,
    min: 0.1,
    cap: 1,
  },
  {
    id: "gpumemory",
    section: "gpu",
    needs: ["nvidia_smi_memory_used_bytes", "node_drm_memory_vram_used_bytes"],
    queries: [
      { expr: (w) => w.gauge("nvidia_smi_memory_used_bytes"), name: (m) => (m.uuid ?? "").slice(0, 12) },
      { expr: (w) => w.gauge("node_drm_memory_vram_used_bytes"), name: label("card") },
    ],
    unit: iec,
  },
  {
    id: "gputemp",
    section: "gpu",
    needs: ["nvidia_smi_temperature_gpu"],
    queries: [
      { expr: (w) => w.gauge("nvidia_smi_temperature_gpu"), name: (m) => (m.uuid ?? "").slice(0, 12) },
    ],
    unit: (v) => `${num(v, 0)} °C`,
  },
  {
    id: "gpupower",
    section: "gpu",
    needs: ["nvidia_smi_power_draw_watts"],
    queries: [
      { expr: (w) => w.gauge("nvidia_smi_power_draw_watts"), name: (m) => (m.uuid ?? "").slice(0, 12) },
    ],
    unit: (v) => `${num(v, 0)} W`,
  },
  {
    id: "meshrtt",
    section: "mesh",
    needs: ["panoptes_mesh_rtt_seconds"],
    queries: [{ expr: (w) => w.gauge("panoptes_mesh_rtt_seconds"), name: label("peer") }],
    unit: seconds,
    min: 0.001,
  },
  {
    id: "meshloss",
    section: "mesh",
    needs: ["panoptes_mesh_lost_total"],
    queries: [
      {
        expr: (w) => `${w.rate("panoptes_mesh_lost_total")} / (${w.rate("panoptes_mesh_sent_total")} > 0)`,
        name: label("peer"),
      },
    ],
    unit: share,
    min: 0.05,
    cap: 1,
  },
  {
    id: "offset",
    section: "time",
    needs: ["node_timex_offset_seconds"],
    queries: [
      { expr: (w) => w.gauge("node_timex_offset_seconds"), name: "hosts.n.offset" },
      { expr: (w) => `${w.gauge("node_timex_estimated_error_seconds")} < 16`, name: "hosts.n.error" },
    ],
    unit: (v) => (v < 0 ? `−${seconds(-v)}` : seconds(v)),
    min: 0.001,
  },
];

/** lineName writes the name of a line. */
export function lineName(p: Panel, r: Pick<Row, "query" | "metric">): string {
  const { name } = p.queries[r.query] ?? { name: "" };
  return typeof name === "string" ? (tMaybe(name) ?? name) : name(r.metric);
}

/** arrange puts rows into the order of the panel, then by query and name. */
export function arrange(p: Panel, rows: Row[]): Row[] {
  const rank = (r: Row) => {
    const i = p.order?.indexOf(lineName(p, r)) ?? -1;
    return i < 0 ? 99 : i;
  };
  const byName = new Intl.Collator(undefined, { numeric: true });
  return [...rows].sort(
    (a, b) => a.query - b.query || rank(a) - rank(b) || byName.compare(lineName(p, a), lineName(p, b)),
  );
}

/** here are the panels whose metrics the host has. */
export const here = (names: ReadonlySet<string>): Panel[] =>
  PANELS.filter((p) => p.needs.some((n) => names.has(n)));

/** Metrics of the sections that are no charts. */
export const OTHERS = [
  "node_systemd_unit_state",
  "panoptes_service_up",
  "smartctl_device_smart_status",
  "node_md_disks_required",
  "node_zfs_zpool_state",
  "node_power_supply_capacity",
  "node_timex_sync_status",
  "node_filesystem_size_bytes",
];
export const PRESENCE = [...new Set([...PANELS.flatMap((p) => p.needs), ...OTHERS])];
