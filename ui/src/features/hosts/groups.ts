import type { Json } from "../../api/types";

/** The collectors of agents; what is not listed can still be set by name in the group's text. */
export const COLLECTORS = [
  "arp",
  "bonding",
  "conntrack",
  "container",
  "cpu",
  "cpufreq",
  "diskstats",
  "dmi",
  "drm",
  "edac",
  "entropy",
  "filefd",
  "filesystem",
  "hwmon",
  "interrupts",
  "kernel_hung",
  "loadavg",
  "logind",
  "mdadm",
  "meminfo",
  "netclass",
  "netdev",
  "netstat",
  "nvidia",
  "nvme",
  "os",
  "paths",
  "powersupplyclass",
  "pressure",
  "processes",
  "rapl",
  "selinux",
  "smart",
  "sockstat",
  "softnet",
  "systemd",
  "tcpstat",
  "textfile",
  "thermal_zone",
  "time",
  "timex",
  "udp_queues",
  "uname",
  "updates",
  "vmstat",
  "zfs",
];

/** servicesOf reads one service a line: its kind, its name, and for processes a pattern. */
export function servicesOf(text: string): Json | undefined {
  const list = text
    .split("\n")
    .map((l) => l.trim().split(/\s+/))
    .filter((w) => w[0])
    .map(([kind = "", name = "", ...match]) => ({
      kind,
      name,
      ...(match.length ? { match: match.join(" ") } : {}),
    }));
  return list.length ? list : undefined;
}

/** servicesText is the reverse. */
export function servicesText(v: Json | undefined): string {
  if (!Array.isArray(v)) return "";
  return v
    .map((s) => {
      const { kind, name, match } = s as { kind?: string; name?: string; match?: string };
      return [kind, name, match].filter(Boolean).join(" ");
    })
    .join("\n");
}
