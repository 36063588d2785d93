import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { loadLanguage } from "../../i18n/i18n";
import type { PromSeries } from "../../api/types";
import { batches, Feed, type Ask } from "./feed";
import { servicesOf, servicesText } from "./groups";
import { windowOf } from "./HostPage";
import { topOf } from "./Processes";
import { PANELS, PRESENCE, SECTIONS } from "./panels";
import { base, extend, isLive, lastOf, part, stepOf, table, top, union, ways } from "./series";
import { services } from "./Services";
import { blockOf, points } from "./sparks";
import { sparkPath } from "./Sparkline";
import { scaleOf } from "./SyncChart";
import { fileSystems } from "./tables";
import { units } from "./Units";
import { anyOf, covers, filterOf, glob, iec, level, nextSort, rate, share, si } from "./view";
import { hostMessage } from "./words";

vi.mock("uplot", () => ({ default: vi.fn() }));
beforeAll(() => loadLanguage("en"));

const series = (metric: Record<string, string>, values: [number, string][]): PromSeries => ({
  metric,
  values,
});

describe("numbers", () => {
  test("have units of memory, traffic and counts", () => {
    expect([iec(0), iec(1023), iec(1024), iec(1_073_741_824 * 15.6)]).toEqual([
      "0 B",
      "1,023 B",
      "1 KiB",
      "15.6 GiB",
    ]);
    expect([rate(undefined), rate(999), rate(1_250_000)]).toEqual(["–", "999 B/s", "1.3 MB/s"]);
    expect([si(7.25), si(12_500), si(3e9, "Hz")]).toEqual(["7.25", "12.5 k", "3 GHz"]);
    expect([share(0.042), share(0.5), share(undefined), share(NaN)]).toEqual(["4.2 %", "50 %", "–", "–"]);
  });
  test("are too much from a limit on", () => {
    expect([level("disk", 0.79), level("disk", 0.8), level("disk", 0.9), level("cpu", undefined)]).toEqual([
      "ok",
      "warn",
      "bad",
      "ok",
    ]);
  });
});

describe("the list", () => {
  test("reads its filter from the address", () => {
    expect(
      filterOf(new URLSearchParams("q=a&status=down,unknown&label=team%3Dweb&label=x%3Dy&page=2")),
    ).toEqual({
      q: "a",
      status: "down,unknown",
      label: ["team=web", "x=y"],
    });
  });
  test("sorts numbers from the largest, names from the first, and turns round", () => {
    expect([nextSort("", "cpu"), nextSort("-cpu", "cpu"), nextSort("cpu", "cpu")]).toEqual([
      "-cpu",
      "cpu",
      "-cpu",
    ]);
    expect([nextSort("", "name"), nextSort("name", "name")]).toEqual(["name", "-name"]);
  });
  test("asks for whole blocks of rows, in matchers that the servers take", () => {
    const names = Array.from({ length: 100 }, (_, i) => `h${i}`);
    expect(blockOf(names, 15, 32)).toHaveLength(40);
    expect(blockOf(names, 15, 32)).toEqual(blockOf(names, 0, 39));
    expect(anyOf("host", ["a.b", "c"])).toEqual(['host=~"a\\\\.b|c"']);
    const many = anyOf(
      "host",
      Array.from({ length: 60 }, (_, i) => `${"x".repeat(60)}${i}`),
    );
    expect(many.length).toBeGreaterThan(3);
    for (const m of many) expect(m.length).toBeLessThan(1000);
  });
  test("draws sparklines with gaps", () => {
    const p = points(
      [
        [0, "0.5"],
        [240, "1"],
        [9999, "1"],
      ],
      0,
      360,
    );
    expect(p).toEqual([0.5, NaN, 1, NaN]);
    expect(sparkPath(p, 30, 10)).toBe("M0.0 5.0h.1M20.0 1.0h.1");
    expect(sparkPath([0, 1], 10, 10)).toBe("M0.0 9.0L10.0 1.0");
  });
});

describe("groups", () => {
  test("cover hosts as the servers decide it", () => {
    const h = { name: "db-1", region: "eu", labels: { team: "data" } };
    expect(covers({}, h)).toBe(true);
    expect(covers({ hosts: ["web-*", "db-?"] }, h)).toBe(true);
    expect(covers({ hosts: ["db-?"], regions: ["us"] }, h)).toBe(false);
    expect(covers({ matchers: { team: "web" } }, h)).toBe(false);
    expect(covers({ matchers: { other: "" } }, h)).toBe(true);
    expect([glob("a.c", "abc"), glob("[a-c]x", "bx"), glob("[", "["), glob("*", "")]).toEqual([
      false,
      true,
      false,
      true,
    ]);
  });
  test("have services as text", () => {
    const text = "unit nginx.service\nprocess shop java.* -jar shop";
    expect(servicesOf(`\n${text}\n`)).toEqual([
      { kind: "unit", name: "nginx.service" },
      { kind: "process", name: "shop", match: "java.* -jar shop" },
    ]);
    expect(servicesText(servicesOf(text))).toBe(text);
    expect(servicesOf(" ")).toBeUndefined();
  });
});

describe("queries", () => {
  test("are joined and parted again", () => {
    expect(
      union([
        ["a/0", "up"],
        ["b/0", "x"],
      ]),
    ).toBe('label_replace(up, "_q", "a/0", "", "") or label_replace(x, "_q", "b/0", "", "")');
    const parts = part([series({ _q: "a/0", cpu: "0" }, []), series({ _q: "b/0" }, [])]);
    expect(parts.get("a/0")?.[0]?.metric).toEqual({ cpu: "0" });
    expect(parts.get("c/0")).toBeUndefined();
  });
  test("take the last two values where the host is followed, and means over long steps", () => {
    const live = ways("w", { length: 900, end: null }, 15);
    expect(live.rate("m", 'a="b"')).toBe('irate(m{host="w",a="b"}[60s])');
    expect(live.gauge("m")).toBe('m{host="w"}');
    const week = ways("w", { length: 604_800, end: null }, 15);
    expect(week.rate("m")).toMatch(/^rate\(m\{host="w"\}\[3600s\]\)$/);
    expect(week.gauge("m")).toBe('avg_over_time(m{host="w"}[3600s])');
    expect(isLive({ length: 900, end: 5 })).toBe(false);
    expect(stepOf({ length: 300, end: null }, 15)).toBe(1);
  });
  test("every panel has a section, a name and metrics that are asked for", () => {
    for (const p of PANELS) {
      expect(SECTIONS).toContain(p.section);
      for (const n of p.needs) expect(PRESENCE).toContain(n);
    }
    expect(new Set(PANELS.map((p) => p.id)).size).toBe(PANELS.length);
  });
});

describe("rows", () => {
  const first = base(
    [
      [
        series({ cpu: "0" }, [
          [100, "1"],
          [110, "NaN"],
          [120, "3"],
        ]),
      ],
    ],
    100,
    120,
    10,
  );
  test("lie on a grid with gaps", () => {
    expect(table(first, 0)).toEqual({
      xs: [100, 110, 120],
      rows: [{ query: 0, metric: { cpu: "0" }, values: [1, null, 3] }],
    });
  });
  test("grow by the second; what comes late replaces what was there; new series begin", () => {
    const second = extend(
      first,
      [
        [
          series({ cpu: "0" }, [
            [121, "4"],
            [122, "5"],
          ]),
        ],
      ],
      121,
      122,
    );
    const third = extend(
      second,
      [
        [
          series({ cpu: "0" }, [
            [122, "6"],
            [123, "7"],
          ]),
          series({ cpu: "1" }, [[123, "9"]]),
        ],
      ],
      122,
      123,
    );
    const t = table(third, 110);
    expect(t.xs).toEqual([110, 120, 121, 122, 123]);
    expect(t.rows.map((r) => r.values)).toEqual([
      [null, 3, 4, 6, 7],
      [null, null, null, null, 9],
    ]);
    expect(table(first, 0).rows).toHaveLength(1);
  });
  test("are kept by size, and have a newest value", () => {
    const rows = [1, 5, 3].map((v) => ({ query: 0, metric: { v: String(v) }, values: [v, null] }));
    expect(top(rows, 2).map((r) => r.metric.v)).toEqual(["5", "3"]);
    expect([lastOf([1, 2, null]), lastOf([1, null, null, null, null, null, null])]).toEqual([2, null]);
  });
  test("have an axis round zero, not too flat, not above the cap", () => {
    expect(scaleOf(null, null, undefined, undefined)).toEqual([0, 1]);
    expect(scaleOf(0, 0.01, 0.1, 1)[1]).toBeCloseTo(0.106);
    expect(scaleOf(0, 1, 0.1, 1)).toEqual([0, 1]);
    expect(scaleOf(-2, 1, undefined, undefined)[0]).toBeCloseTo(-2.12);
  });
});

describe("the feed", () => {
  afterEach(() => vi.useRealTimers());
  const flush = () => vi.advanceTimersByTimeAsync(0);

  test("asks once for what comes into view together, then only for what is new, and stops", async () => {
    vi.useFakeTimers({ now: 1_000_000_000 });
    const asked: { expr: string; start: number; end: number; step: number; signal: AbortSignal }[] = [];
    const ask: Ask = (expr, span, signal) => {
      asked.push({ expr, ...span, signal });
      return Promise.resolve([series({ _q: "a/0" }, [[span.end, "1"]])]);
    };
    const feed = new Feed(ask, { length: 300, end: null }, 15, () => Date.now() / 1000);
    const stop = feed.start(true);
    feed.show({ id: "a", exprs: () => ["A"] });
    feed.show({ id: "b", exprs: () => ["B"] });
    let told = 0;
    feed.subscribe("a", () => told++);
    await vi.advanceTimersByTimeAsync(50);
    expect(asked).toHaveLength(1);
    expect(asked[0]?.expr).toContain("B");
    expect([asked[0]?.start, asked[0]?.end]).toEqual([999_700, 1_000_000]);
    expect(told).toBe(1);
    await vi.advanceTimersByTimeAsync(1000);
    expect(asked).toHaveLength(2);
    expect(asked[1]?.step).toBe(1);
    expect((asked[1]?.end ?? 0) - (asked[1]?.start ?? 0)).toBeLessThan(6);
    expect(feed.get("a")?.table?.xs.at(-1)).toBe(1_000_001);
    feed.hide("a");
    feed.hide("b");
    await vi.advanceTimersByTimeAsync(2000);
    expect(asked).toHaveLength(2);
    stop();
    expect(asked[1]?.signal.aborted).toBe(true);
  });

  test("says what failed, and tries again when it is shown anew", async () => {
    vi.useFakeTimers({ now: 1_000_000_000 });
    let broken = true;
    const feed = new Feed(
      () => (broken ? Promise.reject(new Error("no")) : Promise.resolve([])),
      { length: 3600, end: null },
      15,
      () => Date.now() / 1000,
    );
    const stop = feed.start(false);
    feed.show({ id: "a", exprs: () => ["A"] });
    await vi.advanceTimersByTimeAsync(50);
    await flush();
    expect(feed.get("a")?.error).toEqual(new Error("no"));
    broken = false;
    feed.show({ id: "a", exprs: () => ["A"] });
    await vi.advanceTimersByTimeAsync(50);
    expect(feed.get("a")).toMatchObject({ error: null, table: { rows: [] } });
    stop();
  });

  test("parts many expressions into queries of a bounded size", () => {
    const panel = (id: string, n: number) => ({ id, exprs: () => new Array<string>(n).fill("x") });
    const w = { length: 60, end: null };
    const parts = batches([panel("a", 20), panel("b", 3), panel("c", 3)], w);
    expect(parts.map((p) => p.map((x) => x.id))).toEqual([["a", "b"], ["c"]]);
    expect(batches([], w)).toEqual([]);
  });
});

describe("the page", () => {
  test("shows a silent host as it was before, and what was zoomed into", () => {
    const seen = new Date(1_000_000_000).toISOString();
    const silent = windowOf(new URLSearchParams("range=1h"), { status: "down", last_seen: seen }, 1_010_000);
    expect(silent).toMatchObject({ range: "1h", before: true, window: { length: 3600, end: 1_000_180 } });
    expect(windowOf(new URLSearchParams("range=x"), { status: "online" }, 5)).toEqual({
      range: "15m",
      window: { length: 900, end: null },
      before: false,
    });
    expect(windowOf(new URLSearchParams("from=100&to=400"), { status: "online" }, 5).window).toEqual({
      length: 300,
      end: 400,
    });
  });
  test("counts a device once, the fullest file system first", () => {
    const f = (mountpoint: string, device: string, value: number) => ({
      metric: { mountpoint, device },
      value,
    });
    const rows = fileSystems(
      new Map([
        [
          "size",
          [
            f("/", "/dev/a", 100),
            f("/var/lib/x", "/dev/a", 100),
            f("/data", "/dev/b", 100),
            f("/gone", "nfs:/x", 0),
          ],
        ],
        ["avail", [f("/", "/dev/a", 60), f("/data", "/dev/b", 10)]],
        ["bad", [f("/gone", "nfs:/x", 1)]],
        ["full", [f("/data", "/dev/b", 3600)]],
      ]),
    );
    expect(rows.map((r) => r.mountpoint).sort()).toEqual(["/", "/data", "/gone"]);
    expect(rows.find((r) => r.mountpoint === "/data")?.full).toBe(3600);
  });
  test("puts failed units first, and the busiest processes", () => {
    const u = (name: string, state: string) => ({ metric: { name, state }, value: 1 });
    expect(units([u("a", "active"), u("z", "failed"), u("b", "inactive")]).map((x) => x.name)).toEqual([
      "z",
      "a",
      "b",
    ]);
    const p = (pid: number, cpu: number, resident: number) => ({ pid, name: "x", cpu, resident });
    expect(topOf([p(1, 0.1, 9), p(2, 0.5, 1)], "cpu").map((x) => x.pid)).toEqual([2, 1]);
    expect(topOf([p(1, 0.1, 9), p(2, 0.5, 1)], "memory", 1).map((x) => x.pid)).toEqual([1]);
  });
  test("says in the reader's language what the servers found", async () => {
    const say = (message: string) => hostMessage({ status: "unknown", message });
    expect(say("its agent is silent, the host answers: tcp 10.0.0.1:22 from s2")).toContain(
      "tcp 10.0.0.1:22 from s2",
    );
    expect(say("something new")).toBe("something new");
    expect(say("its clock is 8m0s ahead: samples that are more than 5m0s ahead are refused")).toContain(
      "8m0s",
    );
    await loadLanguage("zh-CN");
    expect(say("its agent is silent and it does not answer: tried 4 ways from 2 workers")).toBe(
      "代理没有上报，主机也没有响应：2 个节点共尝试了 4 种方式。",
    );
    await loadLanguage("en");
  });
});

test("watched services: what does not run comes first, and each keeps its own facts", () => {
  const fact = (kind: string, name: string, value: number) => ({ metric: { kind, name }, value });
  const list = services(
    new Map([
      ["up", [fact("unit", "a.service", 1), fact("port", "443", 0), fact("process", "a.service", 1)]],
      ["since", [fact("process", "a.service", 100)]],
      ["restarts", [fact("unit", "a.service", 1.9)]],
    ]),
  );
  expect(list.map((s) => [s.kind, s.up, s.since, s.restarts])).toEqual([
    ["port", false, undefined, 0],
    ["process", true, 100, 0],
    ["unit", true, undefined, 2],
  ]);
  expect(services(undefined)).toEqual([]);
});
