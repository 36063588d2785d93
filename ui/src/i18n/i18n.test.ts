import { afterEach, describe, expect, test } from "vitest";
import en from "../locales/en.json";
import zh from "../locales/zh-CN.json";
import { compact, dateTime, percent, seconds, span } from "./format";
import { asLang, fill, loadLanguage, t } from "./i18n";

type Entry = string | Record<string, string>;
const EN = en as Record<string, Entry>;
const ZH = zh as Record<string, Entry>;
const texts = (e: Entry | undefined) => (typeof e === "string" ? [e] : Object.values(e ?? {}));
const holes = (s: string) => [...s.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort();

describe("catalogues", () => {
  test("have the same keys", () => {
    expect(Object.keys(ZH).sort()).toEqual(Object.keys(EN).sort());
  });

  test.each(Object.keys(EN))("%s has the same placeholders", (key) => {
    const known = new Set(texts(EN[key]).flatMap(holes));
    for (const text of texts(ZH[key])) for (const h of holes(text)) expect(known).toContain(h);
    const used = new Set(texts(ZH[key]).flatMap(holes));
    for (const h of known) if (key !== "check.cert.until") expect(used).toContain(h);
    expect(typeof ZH[key]).toBe(typeof EN[key]);
  });

  test("plural entries have every category of their language", () => {
    for (const [lang, cat] of [
      ["en", EN],
      ["zh-CN", ZH],
    ] as const)
      for (const [key, e] of Object.entries(cat))
        if (typeof e !== "string")
          expect(Object.keys(e).sort(), key).toEqual(
            [...new Intl.PluralRules(lang).resolvedOptions().pluralCategories].sort(),
          );
  });

  test("Chinese does not use half-width punctuation after Chinese characters", () => {
    for (const [key, e] of Object.entries(ZH))
      for (const s of texts(e))
        expect(s.replaceAll("名称: 值", ""), key).not.toMatch(/[\u4e00-\u9fff][,;!?:](?![*])/);
  });
});

describe("texts", () => {
  afterEach(() => loadLanguage("en"));

  test("follow a switch of the language", async () => {
    expect(t("checks.picked", { n: 1 })).toBe("1 selected");
    expect(t("overview.down", { n: 1 })).toBe("1 check is down");
    expect(t("overview.down", { n: 1200 })).toBe("1,200 checks are down");
    await loadLanguage("zh-CN");
    expect(t("overview.down", { n: 3 })).toBe("3 个检查故障");
    expect(document.documentElement.lang).toBe("zh-CN");
  });

  test("keep placeholders that nobody filled", () => {
    expect(fill("{a} and {b}", { a: "x" })).toBe("x and {b}");
  });

  test("languages are found by tag", () => {
    expect(asLang("zh-Hans-CN")).toBe("zh-CN");
    expect(asLang("en-GB")).toBe("en");
    expect(asLang("fr")).toBeUndefined();
  });
});

describe("numbers", () => {
  test("of any size take little room", () => {
    expect([0, 0.03125, 9.8765, 1234.5, 12_345, 1_763_700_000, -5e10].map(compact)).toEqual([
      "0",
      "0.03125",
      "9.877",
      "1,234.5",
      "12.345 k",
      "1.764 G",
      "-50 G",
    ]);
    expect(compact(4.2e-7)).toBe("4.20e-7");
    expect(compact(Infinity)).toBe("Infinity");
  });
  test("percent never rounds an outage away", () => {
    expect(percent(1)).toBe("100 %");
    expect(percent(0.9999999)).toBe("99.9999 %");
    expect(percent(0.99871)).toBe("99.871 %");
    expect(percent(null)).toBe("–");
  });

  test("response times keep their unit", () => {
    expect(seconds(0.032)).toBe("32 ms");
    expect(seconds(1.4)).toBe("1.4 s");
    expect(seconds(NaN)).toBe("–");
  });

  test("lengths of time have two units at most", () => {
    expect(span(7500)).toBe("2 hr 5 min");
    expect(span(3600)).toBe("1 hr");
    expect(span(0)).toBe("0 sec");
  });

  test("dates are written YYYY-MM-DD with 24 hours; no date is a dash", () => {
    expect(dateTime(new Date(2026, 10, 20, 17, 5, 9))).toBe("2026-11-20 17:05:09");
    expect(dateTime("0001-01-01T00:00:00Z")).toBe("–");
  });
});
