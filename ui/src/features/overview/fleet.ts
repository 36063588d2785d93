import type { Status } from "../../api/types";

export interface FleetLayout {
  columns: number;
  pitch: number;
  height: number;
}

/** fleetLayout finds the largest cells with which n checks fit into about 200 px of height. */
export function fleetLayout(n: number, width: number): FleetLayout {
  for (const pitch of [32, 26, 22, 18, 14, 11, 9]) {
    const columns = Math.max(1, Math.floor(width / pitch));
    const rows = Math.ceil(n / columns);
    if (rows * pitch <= 200 || pitch === 9) return { columns, pitch, height: Math.max(1, rows) * pitch };
  }
  return { columns: 1, pitch: 9, height: 9 };
}

/** fleetPaths draws the cells; a state has a shape of its own besides its colour. */
export function fleetPaths(states: Status[], l: FleetLayout): Partial<Record<Status, string>> {
  const out: Partial<Record<Status, string>> = {};
  const gap = l.pitch > 12 ? 3 : 2;
  const size = l.pitch - gap;
  states.forEach((s, i) => {
    const x = (i % l.columns) * l.pitch;
    const y = Math.floor(i / l.columns) * l.pitch;
    out[s] = (out[s] ?? "") + shape(s, x, y, size);
  });
  return out;
}

function shape(s: Status, x: number, y: number, a: number): string {
  const h = a / 2;
  switch (s) {
    case "down": {
      const c = a * 0.3;
      return `M${x + c} ${y}h${a - 2 * c}l${c} ${c}v${a - 2 * c}l-${c} ${c}h-${a - 2 * c}l-${c} -${c}v-${a - 2 * c}z`;
    }
    case "degraded":
      return `M${x + h} ${y}l${h} ${a}h-${a}z`;
    case "unknown":
      return `M${x + h} ${y}l${h} ${h}l-${h} ${h}l-${h} -${h}z`;
    case "maintenance":
    case "paused":
    case "pending":
      return `M${x} ${y}h${a}v${a}h-${a}zM${x + a * 0.25} ${y + a * 0.25}v${h}h${h}v-${h}z`;
    default:
      return `M${x} ${y}h${a}v${a}h-${a}z`;
  }
}

/** cellAt is the index of the cell under a point. */
export function cellAt(x: number, y: number, l: FleetLayout, n: number): number | null {
  const col = Math.floor(x / l.pitch);
  const i = Math.floor(y / l.pitch) * l.columns + col;
  return col >= 0 && col < l.columns && i >= 0 && i < n ? i : null;
}
