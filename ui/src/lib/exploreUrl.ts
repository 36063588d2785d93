/** The state of Explore in the address, with Prometheus' own names: g0.expr, g0.tab, g0.range_input, … */

export interface Panel {
  expr: string;
  tab: "graph" | "table" | "explain";
  range: string;
  end: string;
  step: string;
}

export const emptyPanel = (): Panel => ({ expr: "", tab: "table", range: "1h", end: "", step: "" });

export function decodePanels(p: URLSearchParams): Panel[] {
  const out: Panel[] = [];
  for (let i = 0; i < 20; i++) {
    const get = (k: string) => p.get(`g${i}.${k}`);
    const expr = get("expr");
    if (expr === null) break;
    const tab = get("tab");
    out.push({
      expr,
      tab: tab === "graph" || tab === "0" ? "graph" : tab === "explain" ? "explain" : "table",
      range: get("range_input") ?? "1h",
      end: get("end_input") ?? "",
      step: get("step_input") ?? "",
    });
  }
  return out.length ? out : [emptyPanel()];
}

export function encodePanels(panels: Panel[]): URLSearchParams {
  const p = new URLSearchParams();
  panels.forEach((g, i) => {
    p.set(`g${i}.expr`, g.expr);
    p.set(`g${i}.tab`, g.tab);
    p.set(`g${i}.range_input`, g.range);
    if (g.end) p.set(`g${i}.end_input`, g.end);
    if (g.step) p.set(`g${i}.step_input`, g.step);
  });
  return p;
}
