/** Colours of lines: apart in hue and lightness, readable on both grounds; dashes are the second channel. */
export const LINES = [
  "#3b82f6",
  "#e8590c",
  "#0ca678",
  "#ae3ec9",
  "#c2930a",
  "#e64980",
  "#1098ad",
  "#7950f2",
  "#66a80f",
  "#868e96",
];
const DASHES: (number[] | undefined)[] = [undefined, [8, 4], [2, 3], [10, 3, 2, 3]];

export const lineColor = (i: number) => LINES[i % LINES.length] ?? "#3b82f6";
export const lineDash = (i: number) =>
  DASHES[Math.floor(i / LINES.length) % DASHES.length] ?? (i % LINES.length > 2 ? DASHES[i % 4] : undefined);
