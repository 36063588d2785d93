import { describe, expect, test } from "vitest";
import type { Json } from "../../api/types";
import { about, configYaml, fromSimple, simpleOf, toSimple, unwrap } from "./config";

const config = {
  scrape_interval: "30s",
  static_configs: [{ targets: ["a:9100", "b:9100"], labels: { env: "prod" } }],
};

describe("scrape configurations", () => {
  test("the form gives back what it took", () => {
    const s = toSimple(config);
    expect(s && fromSimple(s)).toEqual(config);
  });

  test.each<Json>([
    { ...config, relabel_configs: [] },
    { ...config, job_name: "other" },
    { static_configs: [...config.static_configs, { targets: ["c"] }] },
    { static_configs: [{ targets: ["c"], more: 1 }] },
    { scrape_interval: 5 },
    ["a"],
  ])("the form does not take what it would lose: %j", (c) => {
    expect(toSimple(c)).toBeNull();
  });

  test("YAML and form are the same", () => {
    expect(simpleOf(configYaml(config))).toEqual(toSimple(config));
    expect(simpleOf("a: [")).toBeNull();
    expect(simpleOf("")?.targets).toEqual([]);
  });

  test("keys stand in the usual order", () => {
    const text = configYaml({ relabel_configs: [], static_configs: [], job_name: "x", basic_auth: {} });
    expect(text.match(/^\w+/gm)).toEqual(["job_name", "static_configs", "basic_auth", "relabel_configs"]);
  });

  test("an entry copied with its list is taken out of it", () => {
    const inner = "job_name: a\nstatic_configs:\n  - targets:\n      - x:1\n";
    expect(unwrap(`scrape_configs:\n- ${inner.trim().replace(/\n/g, "\n  ")}\n`)).toBe(inner);
    expect(unwrap(inner)).toBe(inner);
    expect(unwrap("- job_name: a\n- job_name: b\n")).toBe("- job_name: a\n- job_name: b\n");
  });

  test("a job says where its targets come from", () => {
    expect(about({ ...config, kubernetes_sd_configs: [], http_sd_configs: [] })).toEqual({
      targets: 2,
      discovery: ["kubernetes", "http"],
    });
  });
});
