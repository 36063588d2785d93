/** byDay cuts a list that is sorted by time into runs of the same day. */
export function byDay<T>(list: T[], day: (x: T) => string): [string, T[]][] {
  const out: [string, T[]][] = [];
  for (const x of list) {
    const d = day(x);
    const last = out[out.length - 1];
    if (last?.[0] === d) last[1].push(x);
    else out.push([d, [x]]);
  }
  return out;
}
