/** Ranges of time as people write them in addresses: now-1h, 2026-11-20 08:00, RFC 3339. */

const UNITS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};

/** parseDuration reads "1h30m", "15s", "250ms", "30d" as milliseconds. */
export function parseDuration(s: string): number | null {
  const text = s.trim();
  if (text === "0") return 0;
  if (!/^(\d+(ms|[smhdwy]))+$/.test(text)) return null;
  let total = 0;
  for (const m of text.matchAll(/(\d+)(ms|[smhdwy])/g)) total += Number(m[1]) * (UNITS[m[2] ?? ""] ?? 0);
  return total;
}

/** formatDuration writes milliseconds the way parseDuration reads them. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  let rest = Math.round(ms);
  let out = "";
  for (const u of ["d", "h", "m", "s", "ms"] as const) {
    const size = UNITS[u] ?? 1;
    const n = Math.floor(rest / size);
    if (n > 0) out += `${n}${u}`;
    rest -= n * size;
  }
  return out;
}

/** parseTime reads "now", "now-2h", "yesterday", "昨天", "2026-11-20 08:00", RFC 3339 or Unix seconds as milliseconds. */
export function parseTime(s: string, now: number): number | null {
  const text = s.trim();
  if (text === "now" || text === "现在") return now;
  const rel = /^now\s*([-+])\s*(\w+)$/.exec(text);
  if (rel) {
    const d = parseDuration(rel[2] ?? "");
    return d === null ? null : rel[1] === "-" ? now - d : now + d;
  }
  if (/^(today|今天|yesterday|昨天)$/i.test(text)) {
    const d = new Date(now);
    d.setHours(0, 0, 0, 0);
    if (/yesterday|昨天/i.test(text)) d.setDate(d.getDate() - 1);
    return d.getTime();
  }
  if (/^\d{9,10}(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return null;
  const local = /^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00` : text.replace(" ", "T");
  const ms = Date.parse(local);
  return Number.isNaN(ms) ? null : ms;
}

/** stepFor is a step in seconds that gives at most `points` points, at least `min`. */
export function stepFor(rangeMs: number, points: number, min = 1): number {
  const raw = rangeMs / 1000 / points;
  for (const s of [
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
  ])
    if (s >= raw && s >= min) return s;
  return Math.ceil(raw / 86400) * 86400;
}

/** localInput writes a time for <input type="datetime-local">. */
export function localInput(ms: number): string {
  const d = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return d.toISOString().slice(0, 16);
}

/** nextMorning is the next 9 o'clock of the reader's clock. */
export function nextMorning(now: number, hour = 9): number {
  const d = new Date(now);
  d.setHours(hour, 0, 0, 0);
  if (d.getTime() <= now) d.setDate(d.getDate() + 1);
  return d.getTime();
}
