import { useSyncExternalStore } from "react";
import { language, t } from "./i18n";

const dtf = new Map<string, Intl.DateTimeFormat>();
function fmt(name: string, o: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  // Swedish writes dates as YYYY-MM-DD, which readers of both languages take at a glance.
  const key = name;
  let f = dtf.get(key);
  if (!f) dtf.set(key, (f = new Intl.DateTimeFormat("sv-SE", { hourCycle: "h23", ...o })));
  return f;
}
const date = (v: string | number | Date) => (v instanceof Date ? v : new Date(v));
const valid = (d: Date) => !Number.isNaN(d.getTime()) && d.getTime() > 0;

/** dateTime writes 2026-11-20 08:15:02 in the reader's time zone. */
export function dateTime(v: string | number | Date, seconds = true): string {
  const d = date(v);
  if (!valid(d)) return "–";
  return fmt(seconds ? "dts" : "dt", {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    ...(seconds ? { second: "2-digit" } : {}),
  }).format(d);
}
export const timeOnly = (v: string | number | Date) =>
  fmt("t", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(date(v));
export const dayOnly = (v: string | number | Date) =>
  fmt("d", { year: "numeric", month: "2-digit", day: "2-digit" }).format(date(v));

/** dayName writes the day with its weekday, for headings. */
export const dayName = (v: string | number | Date) =>
  new Intl.DateTimeFormat(language(), {
    weekday: "long",
    year: "numeric",
    month: "long",
    day: "numeric",
  }).format(date(v));

/** zone names the reader's time zone. */
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** ago writes "3 min ago" or "in 2 h". */
export function ago(v: string | number | Date, now: number): string {
  const d = date(v);
  if (!valid(d)) return "–";
  const s = Math.round((d.getTime() - now) / 1000);
  const rtf = new Intl.RelativeTimeFormat(language(), { style: "short", numeric: "auto" });
  const a = Math.abs(s);
  if (a < 5) return t("time.now");
  if (a < 60) return rtf.format(s, "second");
  if (a < 3600) return rtf.format(Math.trunc(s / 60), "minute");
  if (a < 86400) return rtf.format(Math.trunc(s / 3600), "hour");
  return rtf.format(Math.trunc(s / 86400), "day");
}

/** span writes a length of time in at most two units: "2 h 5 min". */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [
    [Math.floor(s / 86400), "day"],
    [Math.floor(s / 3600) % 24, "hour"],
    [Math.floor(s / 60) % 60, "minute"],
    [s % 60, "second"],
  ];
  const from = parts.findIndex(([n]) => n > 0);
  if (from < 0) return unit(0, "second");
  return parts
    .slice(from, from + 2)
    .filter(([n], i) => n > 0 || i === 0)
    .map(([n, u]) => unit(n, u))
    .join(" ");
}
const unit = (n: number, u: string) =>
  new Intl.NumberFormat(language(), { style: "unit", unit: u, unitDisplay: "short" }).format(n);

/** seconds writes a response time: "32 ms", "1.4 s". */
export function seconds(v: number): string {
  if (!Number.isFinite(v)) return "–";
  if (v === 0) return "0 ms";
  if (v < 0.001) return `${num(v * 1e6, 0)} µs`;
  if (v < 1) return `${num(v * 1000, v < 0.01 ? 1 : 0)} ms`;
  return `${num(v, 2)} s`;
}
export const num = (v: number, digits = 2) =>
  new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(v);

const LARGE = ["", " k", " M", " G", " T", " P", " E"];

/** compact writes any number in little room: "1.25 G", "0.0312", "4.2e-7". */
export function compact(v: number): string {
  const a = Math.abs(v);
  if (!Number.isFinite(v) || (a !== 0 && a < 1e-4) || a >= 1e21) return v.toExponential(2);
  if (a < 10_000) return num(v, a < 1 ? 5 : a < 100 ? 3 : 2);
  const i = Math.min(Math.floor(Math.log10(a) / 3), LARGE.length - 1);
  return num(v / 1000 ** i, 3) + (LARGE[i] ?? "");
}

/** percent writes 0.99871 as "99.871 %" and never rounds an outage away to 100 %. */
export function percent(v: number | null | undefined): string {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const digits = v >= 0.9999 ? 4 : v >= 0.99 ? 3 : 2;
  const f = 10 ** (digits + 2);
  const cut = v < 1 ? Math.floor(v * f) / f : 1;
  return `${new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(cut * 100)} %`;
}

let now = Date.now();
const ticks = new Set<() => void>();
let timer = 0;
function tick() {
  now = Date.now();
  ticks.forEach((f) => f());
}

// One function for all: another one at each render would subscribe anew each time.
function watch(f: () => void) {
  ticks.add(f);
  if (!timer) {
    now = Date.now();
    timer = window.setInterval(tick, 5000);
  }
  return () => {
    ticks.delete(f);
    if (!ticks.size) {
      clearInterval(timer);
      timer = 0;
    }
  };
}

/** useNow is the time, renewed every five seconds for all who look at it. */
export const useNow = (): number => useSyncExternalStore(watch, () => now);
