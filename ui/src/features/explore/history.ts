const KEY = "panoptes.queries";

/** readHistory returns the expressions that were run lately, the newest first. */
export function readHistory(): string[] {
  try {
    const list: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(list) ? list.filter((x): x is string => typeof x === "string") : [];
  } catch {
    return [];
  }
}

export function remember(expr: string): void {
  localStorage.setItem(KEY, JSON.stringify([expr, ...readHistory().filter((x) => x !== expr)].slice(0, 50)));
}
