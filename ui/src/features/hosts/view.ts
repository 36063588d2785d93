import type { HostFilter, HostGroup, HostRow, HostStatus } from "../../api/hosts";
import type { Status } from "../../api/types";
import { num } from "../../i18n/format";
import { promString } from "../../lib/matchers";

/** How hosts are shown: pure functions over what the server answers. */

const FACES: Record<HostStatus, Status> = {
  online: "up",
  unknown: "unknown",
  down: "down",
  stopped: "paused",
};

/** face is the sign of a state. */
export const face = (s: HostStatus | undefined): Status => FACES[s ?? "unknown"] ?? "unknown";

export type Level = "ok" | "warn" | "bad";
const LIMITS = { cpu: [0.8, 0.95], memory: [0.85, 0.95], disk: [0.8, 0.9], swap: [0.5, 0.9] } as const;
export type Resource = keyof typeof LIMITS;

/** level says how much of a resource is too much. */
export function level(what: Resource, share: number | undefined): Level {
  const [warn, bad] = LIMITS[what];
  if (share === undefined || share < warn) return "ok";
  return share < bad ? "warn" : "bad";
}

/** share writes 0.1234 as "12 %", and small ones with a digit more. */
export const share = (v: number | null | undefined): string =>
  v === undefined || v === null || !Number.isFinite(v) ? "–" : `${num(v * 100, v < 0.0995 ? 1 : 0)} %`;

function scaled(v: number, base: number, units: readonly string[], whole = true): string {
  let x = v;
  let i = 0;
  // 999.95 would be written as 1000.0.
  while (Math.abs(x) >= base - (base > 1000 ? 0.5 : 0.05) && i < units.length - 1) {
    x /= base;
    i++;
  }
  return `${num(x, (whole && i === 0) || Math.abs(x) >= 100 ? 0 : 1)} ${units[i] ?? ""}`;
}

/** iec writes sizes of memory and disks: "15.6 GiB". */
export const iec = (bytes: number): string =>
  Number.isFinite(bytes) ? scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) : "–";

/** rate writes bytes per second: "1.2 MB/s". */
export const rate = (v: number | undefined): string =>
  v === undefined || !Number.isFinite(v) ? "–" : scaled(v, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]);

/** si writes counts: "12.5 k". */
export const si = (v: number, unit = ""): string =>
  Number.isFinite(v)
    ? Math.abs(v) < 1000
      ? `${num(v, Math.abs(v) < 10 ? 2 : 1)} ${unit}`.trimEnd()
      : scaled(v / 1000, 1000, [`k${unit}`, `M${unit}`, `G${unit}`, `T${unit}`], false)
    : "–";

/** filterOf reads the filter out of the address. */
export function filterOf(p: URLSearchParams): HostFilter {
  const f: HostFilter = {};
  for (const k of ["q", "status", "region", "group", "sort"] as const) {
    const v = p.get(k);
    if (v) f[k] = v;
  }
  const labels = p.getAll("label");
  if (labels.length) f.label = labels;
  return f;
}

/** nextSort is the order after a click on a column: numbers begin with the largest. */
export function nextSort(now: string, column: string): string {
  const first = column === "name" || column === "status" || column === "since" ? column : `-${column}`;
  const other = first.startsWith("-") ? column : `-${column}`;
  return now === first ? other : first;
}

const REGEX_BYTES = 900; // the servers take 1,000

/** anyOf is one or more matchers for a label with some values: a long list is parted. */
export function anyOf(label: string, values: string[]): string[] {
  const out: string[] = [];
  let re = "";
  for (const v of values.map((n) => n.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"))) {
    if (re && re.length + v.length >= REGEX_BYTES) {
      out.push(re);
      re = "";
    }
    re += re ? `|${v}` : v;
  }
  if (re) out.push(re);
  return out.map((x) => `${label}=~${promString(x)}`);
}

/** glob compares a name with a pattern in which * stands for any letters, ? for one and [a-c] for a class. */
export function glob(pattern: string, name: string): boolean {
  let re = "";
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern.charAt(i);
    if (c === "*") re += "[^/]*";
    else if (c === "?") re += "[^/]";
    else if (c === "[") {
      const end = pattern.indexOf("]", i + 2);
      if (end < 0) return false;
      re += `[${pattern.slice(i + 1, end).replace(/[\\[]/g, "\\$&")}]`;
      i = end;
    } else re += c.replace(/[\\^$.*+?()|{}\]/]/g, "\\$&");
  }
  try {
    return new RegExp(`^${re}$`, "u").test(name);
  } catch {
    return false;
  }
}

/** covers says whether a host belongs to a group, as the servers decide it. */
export function covers(
  g: Pick<HostGroup, "hosts" | "regions" | "matchers">,
  h: Pick<HostRow, "name" | "region" | "labels">,
): boolean {
  if (g.regions?.length && !g.regions.includes(h.region)) return false;
  for (const [k, v] of Object.entries(g.matchers ?? {})) if ((h.labels?.[k] ?? "") !== v) return false;
  return !g.hosts?.length || g.hosts.some((p) => glob(p, h.name));
}
