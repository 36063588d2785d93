/** One line of a comparison. */
export interface DiffLine {
  kind: "same" | "added" | "removed";
  text: string;
  /** The line's number in the old and in the new text, from one. */
  old?: number;
  now?: number;
}

const MOST = 4_000_000;

/** diffLines compares two texts line by line, with as few changes as possible. */
export function diffLines(before: string, after: string): DiffLine[] {
  const a = lines(before);
  const b = lines(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (
    tail < a.length - head &&
    tail < b.length - head &&
    a[a.length - 1 - tail] === b[b.length - 1 - tail]
  )
    tail++;
  const out: DiffLine[] = [];
  const same = (i: number, j: number) => out.push({ kind: "same", text: a[i] ?? "", old: i + 1, now: j + 1 });
  const gone = (i: number) => out.push({ kind: "removed", text: a[i] ?? "", old: i + 1 });
  const fresh = (j: number) => out.push({ kind: "added", text: b[j] ?? "", now: j + 1 });
  for (let i = 0; i < head; i++) same(i, i);
  const n = a.length - head - tail;
  const m = b.length - head - tail;
  if (n * m > MOST) {
    // Too much to compare line by line: one block for the other.
    for (let i = 0; i < n; i++) gone(head + i);
    for (let j = 0; j < m; j++) fresh(head + j);
  } else {
    const w = m + 1;
    const len = new Uint32Array((n + 1) * w);
    const at = (i: number, j: number) => len[i * w + j] ?? 0;
    for (let i = n - 1; i >= 0; i--)
      for (let j = m - 1; j >= 0; j--)
        len[i * w + j] =
          a[head + i] === b[head + j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    let i = 0;
    let j = 0;
    while (i < n || j < m) {
      if (i < n && j < m && a[head + i] === b[head + j]) same(head + i++, head + j++);
      else if (i < n && (j >= m || at(i + 1, j) >= at(i, j + 1))) gone(head + i++);
      else fresh(head + j++);
    }
  }
  for (let k = tail; k > 0; k--) same(a.length - k, b.length - k);
  return out;
}

const lines = (s: string) => (s === "" ? [] : s.replace(/\n$/, "").split("\n"));

/** A stretch of a comparison: changes with what stands around them, or lines that were left out. */
export type Hunk = { skipped: number } | { lines: DiffLine[] };

/** hunks leaves out what is far from any change. */
export function hunks(all: DiffLine[], around = 3): Hunk[] {
  const keep = new Uint8Array(all.length);
  all.forEach((l, i) => {
    if (l.kind === "same") return;
    keep.fill(1, Math.max(0, i - around), Math.min(all.length, i + around + 1));
  });
  const out: Hunk[] = [];
  for (let i = 0; i < all.length;) {
    let j = i;
    while (j < all.length && keep[j] === keep[i]) j++;
    out.push(keep[i] ? { lines: all.slice(i, j) } : { skipped: j - i });
    i = j;
  }
  return out;
}

/** tally counts the changes. */
export const tally = (all: DiffLine[]) => ({
  added: all.filter((l) => l.kind === "added").length,
  removed: all.filter((l) => l.kind === "removed").length,
});
