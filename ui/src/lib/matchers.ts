/** Matchers in Alertmanager's syntax: name="value", !=, =~, !~. */

export interface Matcher {
  name: string;
  op: "=" | "!=" | "=~" | "!~";
  value: string;
}

const RE = /^\s*([a-zA-Z_][a-zA-Z0-9_]*|"(?:[^"\\]|\\.)*")\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^"]*?)\s*$/;

const unquote = (s: string) =>
  s.startsWith('"') ? s.slice(1, -1).replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c)) : s;
const quote = (s: string) => `"${s.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n")}"`;

/** parseMatcher reads one matcher; quotes around the value may be left out. */
export function parseMatcher(text: string): Matcher | null {
  const m = RE.exec(text);
  if (!m) return null;
  return { name: unquote(m[1] ?? ""), op: m[2] as Matcher["op"], value: unquote(m[3] ?? "") };
}

export const formatMatcher = (m: Matcher) => `${m.name}${m.op}${quote(m.value)}`;

/** equal makes a matcher for one label. */
export const equal = (name: string, value: string) => formatMatcher({ name, op: "=", value });

/** normalizeMatcher brings typed text into one form, or returns null. */
export function normalizeMatcher(text: string): string | null {
  const m = parseMatcher(text);
  return m && formatMatcher(m);
}

/** promString quotes a text for PromQL. */
export const promString = quote;
