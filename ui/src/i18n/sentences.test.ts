import { afterAll, beforeAll, describe, expect, test } from "vitest";
import table from "../locales/zh-CN.sentences.json";
import { alertText } from "./errors";
import { loadLanguage, loadSentences, sentence } from "./i18n";
import { sayer } from "./sentences";

describe("the table of sentences", () => {
  const entries = Object.entries(table);

  test("fills in what its patterns hold, and only that", () => {
    for (const [key, text] of entries) {
      const holes = [...key.matchAll(/\{([a-z]*)\}/g)].map((m) => m[1]);
      for (const h of holes) expect(["", "n", "t", "w", "raw"], key).toContain(h);
      for (const [, n] of text.matchAll(/\{(\w*)\}/g)) {
        expect(Number(n), key).toBeGreaterThan(0);
        expect(Number(n), key).toBeLessThanOrEqual(holes.length);
      }
      expect(text, key).not.toMatch(/[\u4e00-\u9fff][,;!?:](?![*])/);
    }
  });

  test("has nothing so wide that it would catch other sentences", () => {
    for (const [key] of entries) {
      const fixed = key.replace(/\{[a-z]*\}/g, "").replace(/[^A-Za-z]/g, "");
      const loose = key.includes("{}") || key.includes("{raw}");
      expect(fixed.length, key).toBeGreaterThanOrEqual(loose ? 2 : 0);
    }
  });

  test("says a sentence of its own for each pattern", () => {
    const say = sayer(table);
    const sample: Record<string, string> = { n: "7", t: "12 ms", w: "x1" };
    for (const [key] of entries) {
      const text = key.replace(/\{([a-z]*)\}/g, (_, h: string) => sample[h] ?? "x1");
      expect(say(text), key).not.toBe(text);
    }
  });
});

describe("sentences", () => {
  beforeAll(async () => {
    await loadLanguage("zh-CN");
    await loadSentences("zh-CN");
  });
  afterAll(() => loadLanguage("en"));

  test.each([
    ["connection refused", "拒绝连接"],
    ["200 OK in 32 ms", "200 OK，用时 32 ms"],
    ["NOERROR, 93.184.216.34 in 1.25 s", "NOERROR，93.184.216.34，用时 1.25 s"],
    ["name shop.example does not exist", "域名 shop.example 不存在"],
    ["status 500 Internal Server Error, wanted 200-299", "状态码 500 Internal Server Error，期望 200-299"],
    ["degraded: response time <= 100ms, found 231 ms", "降级：响应时间 <= 100ms，实际为 231 ms"],
    ["certificate days left >= 14, found 3.2", "证书剩余天数 >= 14，实际为 3.2"],
    [
      "certificate: certificate has expired or is not yet valid: current time 2026-11-22T00:00:00Z is after 2026-11-01T00:00:00Z",
      "证书：证书已过期：当前时间 2026-11-22T00:00:00Z 晚于 2026-11-01T00:00:00Z",
    ],
    ["eu: timed out (nobody else could confirm)", "eu：超时（没有其他区域可以复核）"],
    [
      "2 of 3 regions fail (eu: connection refused; us: timed out)",
      "3 个区域中有 2 个失败（eu：拒绝连接；us：超时）",
    ],
    ["1 of 3 regions is silent (eu), us: timed out", "3 个区域中有 1 个无结果（eu），us：超时"],
    [
      "no fresh result; the last one: resolving a.example: server misbehaving",
      "没有新的结果；最近一次：解析 a.example：DNS 服务器应答异常",
    ],
    ["last ping 3m20s ago: 42 rows", "3m20s前收到最近一次心跳：42 rows"],
    [
      "its agent is silent, the host answers: tcp 10.0.0.1:22 from s2",
      "代理没有上报，但主机有响应：s2 通过 TCP 访问 10.0.0.1:22",
    ],
    [
      "timeout: must lie between 100ms and the interval (20s); url: must be given",
      "timeout：必须介于 100ms 和间隔（20s）之间；url：必填",
    ],
    [
      'http.degraded_after: "1us" is not a duration; write for example 20s, 5m or 1h30m',
      'http.degraded_after："1us" 不是时长，例如 20s、5m 或 1h30m',
    ],
    [
      "2 of 3 regions fail (eu: timed out; us: timed out), which is below the quorum",
      "3 个区域中有 2 个失败（eu：超时；us：超时），未达到判定所需数量",
    ],
    ["must begin with http:// or https://", "必须以 http:// 或 https:// 开头"],
    ["must lie between 0 and 100", "必须介于 0 和 100 之间"],
    [
      'Get "http://127.0.0.1:1/metrics": dial tcp 127.0.0.1:1: connect: connection refused',
      '请求 "http://127.0.0.1:1/metrics"：连接 127.0.0.1:1：拒绝连接',
    ],
    ["server returned HTTP status 404 Not Found", "目标返回 HTTP 状态 404 Not Found"],
    [
      "scrape_configs[0]: scrape_interval: 500ms is raised to 1s",
      "scrape_configs[0]：scrape_interval：500ms 已调高到 1s",
    ],
    ["scrape_configs[2]: has no job_name; not taken over", "scrape_configs[2]：没有 job_name，未导入"],
    [
      "limit exceeded: the query selects more than 9 series; narrow its matchers",
      "超出限制：查询选中的序列超过 9 条，请收窄匹配条件",
    ],
  ])("%s", (text, chinese) => {
    expect(sentence(text)).toBe(chinese);
  });

  test("that nobody knows, and all that people wrote, stay", () => {
    for (const s of ["", "Disk of web1 is full", "order 7 lost in 12 pieces", "a: b; c: d", "x".repeat(5000)])
      expect(sentence(s)).toBe(s);
    expect(sentence("body contains connection refused, found timed out: x")).toContain("connection refused");
    const rule = { labels: { alertname: "Mine", check: "shop" }, annotations: { summary: "timed out" } };
    expect(alertText(rule)).toBe("timed out");
    const ours = {
      labels: { alertname: "CheckDown", check: "shop" },
      annotations: { summary: "shop: timed out" },
    };
    expect(alertText(ours)).toBe("超时");
    const both = { labels: {}, annotations: { summary: "slow", summary_zh: "慢" } };
    expect(alertText(both)).toBe("慢");
  });

  test("that strangers make long and tangled cost little", () => {
    const start = performance.now();
    for (const s of [": ".repeat(400), "a in, found ".repeat(80), "; x: ".repeat(190), "(".repeat(999)])
      sentence(s);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test("are English in English", async () => {
    await loadLanguage("en");
    expect(sentence("timed out")).toBe("timed out");
    await loadLanguage("zh-CN");
    expect(sentence("timed out")).toBe("超时");
  });
});
