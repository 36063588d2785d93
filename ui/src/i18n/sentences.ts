/** A table says by the pattern of an English sentence how to say it in another language. */
export type Table = Record<string, string>;

/**
 * What may stand where a sentence varies: {n} a number, {t} a length of time,
 * {w} one word, {raw} and {} anything. What {} stands for is a sentence itself,
 * if it is one; the others are left as they are.
 */
const HOLES: Record<string, string> = {
  "": "(.*?)",
  raw: "(.*?)",
  w: "(\\S+?)",
  n: "(-?\\d[\\d.,]*%?)",
  t: "(-?\\d[\\d.]*(?: ?(?:ns|[µu]s|ms|[smhdwy])[\\d.]*)+)",
};
const HOLE = /\{([a-z]*)\}/;

interface Pattern {
  re: RegExp;
  start: string;
  longest: string;
  holes: string[];
  text: string;
  weight: number;
}

/** Texts of one page are few; this bounds what a long day collects. */
const REMEMBERED = 4000;
/** Longer texts are no sentences of ours: bodies, traces, lists. */
const LONGEST = 1000;

const escape = (s: string) => s.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function compile(key: string, text: string): Pattern {
  const parts = key.split(HOLE); // literal, hole, literal, …
  const literals = parts.filter((_, i) => i % 2 === 0);
  const holes = parts.filter((_, i) => i % 2 === 1);
  return {
    re: new RegExp(`^${parts.map((p, i) => (i % 2 ? (HOLES[p] ?? HOLES[""]) : escape(p))).join("")}$`, "s"),
    start: literals[0] ?? "",
    longest: literals.reduce((a, b) => (b.length > a.length ? b : a), ""),
    holes,
    text,
    weight: literals.join("").length * 4 + holes.filter(Boolean).length,
  };
}

/** balanced tells texts that begin and end outside of the same brackets. */
const balanced = (s: string) => s.split("(").length === s.split(")").length;

const several = (s: string) => /[:;] /.test(s) && balanced(s);

/** sayer makes of a table the function that translates by it. */
export function sayer(table: Table): (text: string) => string {
  const patterns = Object.entries(table)
    .filter(([key]) => HOLE.test(key))
    .map(([key, text]) => compile(key, text))
    .sort((a, b) => b.weight - a.weight); // what is said more exactly is tried first
  const said = new Map<string, string | undefined>();

  // What a hole stands for may be more than one part of the text: then the parts are tried first.
  const whole = (text: string): { text: string; first: boolean; wide: boolean } | undefined => {
    if (Object.hasOwn(table, text)) return { text: table[text] ?? text, first: false, wide: false };
    for (const p of patterns) {
      const found = text.startsWith(p.start) && text.includes(p.longest) ? p.re.exec(text)?.slice(1) : null;
      if (!found) continue;
      const filled = p.holes.map((hole, i) => (hole === "" ? say(found[i] ?? "") : (found[i] ?? "")));
      return {
        text: p.text.replace(/\{(\d+)\}/g, (_, n: string) => filled[Number(n) - 1] ?? ""),
        first: p.start === "" && several(found[0] ?? ""),
        wide: found.some(several),
      };
    }
    return undefined;
  };

  // "resolving example.org: timed out", "url: must be given; interval: …": cut
  // where both parts are known, else where one is.
  const joined = (text: string, both: boolean): string | undefined => {
    let best: string | undefined;
    for (const m of text.matchAll(/[:;] /g)) {
      const head = text.slice(0, m.index);
      const tail = text.slice(m.index + 2);
      if (!balanced(head)) continue;
      const a = known(head);
      const b = known(tail);
      const parts = `${a ?? head}${m[0] === ": " ? "：" : "；"}${b ?? tail}`;
      if (a !== undefined && b !== undefined) return parts;
      if (a !== undefined || b !== undefined) best ??= parts;
    }
    return both ? undefined : best;
  };

  const known = (text: string): string | undefined => {
    if (text.length > LONGEST || !/[A-Za-z]/.test(text)) return undefined;
    if (!said.has(text)) {
      if (said.size >= REMEMBERED) said.clear();
      said.set(text, undefined); // a text within itself ends here
      const found = whole(text);
      said.set(text, ((found?.wide ?? true) && joined(text, !!found && !found.first)) || found?.text);
    }
    return said.get(text);
  };
  const say = (text: string): string => known(text) ?? text;
  return say;
}
