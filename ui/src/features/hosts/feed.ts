import type { PromSeries } from "../../api/types";
import {
  base,
  extend,
  isLive,
  part,
  stepOf,
  table,
  union,
  type Buffer,
  type Table,
  type Window,
} from "./series";

/** Ask evaluates an expression over time; it may be cancelled. */
export type Ask = (
  expr: string,
  span: { start: number; end: number; step: number },
  signal: AbortSignal,
) => Promise<PromSeries[]>;

export interface Wanted {
  id: string;
  /** The expressions of a panel for a window. */
  exprs: (w: Window) => string[];
}
export interface PanelState {
  table: Table | null;
  error: unknown;
}

const BATCH = 24; // expressions in one query
const OVERLAP = 3; // seconds that are read again: values come late
const RETRY = 10_000; // ms
const REBASE = 150; // seconds of tail until everything is read anew

/**
 * Feed reads the series of all panels in view: whole windows when a panel comes
 * into view, then only what is new. Panels that nobody sees ask for nothing.
 */
export class Feed {
  private readonly wanted = new Map<string, Wanted>();
  private readonly buffers = new Map<string, Buffer>();
  private readonly states = new Map<string, PanelState>();
  private readonly listeners = new Map<string, Set<() => void>>();
  private stop = new AbortController();
  private timer = 0;
  private reading = false;
  private queued = 0;
  private tried = Date.now();
  private fresh = 0; // when everything was last read whole, in ms

  constructor(
    private readonly ask: Ask,
    private window: Window,
    private readonly interval: number,
    /** now is the servers' time in Unix seconds. */
    private readonly now: () => number,
  ) {}

  /** start follows the time until the returned function is called. */
  start(live: boolean): () => void {
    this.stop = new AbortController();
    this.load([...this.wanted.values()]);
    if (live) this.timer = globalThis.setInterval(() => void this.tick(), 1000) as unknown as number;
    return () => {
      this.stop.abort();
      clearInterval(this.timer);
      clearTimeout(this.queued);
      this.queued = 0;
    };
  }

  show(w: Wanted): void {
    this.wanted.set(w.id, w);
    // Panels come into view together; they share a query.
    if (!this.queued)
      this.queued = globalThis.setTimeout(() => {
        this.queued = 0;
        this.load([...this.wanted.values()].filter((x) => !this.buffers.has(x.id)));
      }, 30) as unknown as number;
  }

  hide(id: string): void {
    this.wanted.delete(id);
    this.buffers.delete(id);
  }

  subscribe(id: string, f: () => void): () => void {
    const set = this.listeners.get(id) ?? new Set();
    this.listeners.set(id, set.add(f));
    return () => set.delete(f);
  }

  get = (id: string): PanelState | undefined => this.states.get(id);

  /** range is what charts show now. */
  range(): [number, number] {
    const end = this.window.end ?? this.now();
    return [end - this.window.length, end];
  }

  private tell(id: string, error: unknown = null): void {
    const b = this.buffers.get(id);
    this.states.set(id, {
      table: b ? table(b, this.range()[0] - b.step) : (this.states.get(id)?.table ?? null),
      error,
    });
    this.listeners.get(id)?.forEach((f) => f());
  }

  private load(panels: Wanted[]): void {
    if (!panels.length || this.stop.signal.aborted) return;
    const step = stepOf(this.window, this.interval);
    const end = Math.floor((this.window.end ?? this.now()) / step) * step;
    const start = end - Math.ceil(this.window.length / step) * step;
    if (panels.length === this.wanted.size) this.fresh = Date.now();
    for (const batch of batches(panels, this.window))
      void this.read(batch, { start, end, step }, (p, answers) => {
        if (this.wanted.has(p.id)) this.buffers.set(p.id, base(answers, start, end, step));
      });
  }

  private async tick(): Promise<void> {
    if (this.reading || this.stop.signal.aborted) return;
    const loaded = [...this.wanted.values()].filter((p) => this.buffers.has(p.id));
    const age = (Date.now() - this.fresh) / 1000;
    if (!isLive(this.window)) {
      const every = Math.max(15, Math.min(stepOf(this.window, this.interval), 300));
      if (this.window.end === null && age >= every) this.load([...this.wanted.values()]);
      return;
    }
    if (age > REBASE) {
      this.load([...this.wanted.values()]);
      return;
    }
    // What could not be read at first.
    if (Date.now() - this.tried >= RETRY) {
      this.tried = Date.now();
      this.load(
        [...this.wanted.values()].filter((p) => this.states.get(p.id)?.error && !this.buffers.has(p.id)),
      );
    }
    if (!loaded.length) return;
    const to = Math.floor(this.now());
    this.reading = true;
    try {
      await Promise.all(
        batches(loaded, this.window).map((batch) => {
          const reach = Math.min(
            ...batch.map((p) => (this.buffers.get(p.id)?.end ?? to) + (this.buffers.get(p.id)?.tail ?? 0)),
          );
          const from = Math.max(reach - OVERLAP, to - REBASE);
          if (from > to) return undefined;
          return this.read(batch, { start: from, end: to, step: 1 }, (p, answers) => {
            const b = this.buffers.get(p.id);
            if (b) this.buffers.set(p.id, extend(b, answers, from, to));
          });
        }),
      );
    } finally {
      this.reading = false;
    }
  }

  private async read(
    batch: Wanted[],
    span: { start: number; end: number; step: number },
    take: (p: Wanted, answers: PromSeries[][]) => void,
  ): Promise<void> {
    const { signal } = this.stop;
    const names = batch.flatMap((p) =>
      p.exprs(this.window).map((e, i) => [`${p.id}/${i}`, e] as [string, string]),
    );
    try {
      const parts = part(await this.ask(union(names), span, signal));
      if (signal.aborted) return;
      for (const p of batch) {
        take(
          p,
          p.exprs(this.window).map((_, i) => parts.get(`${p.id}/${i}`) ?? []),
        );
        this.tell(p.id);
      }
    } catch (e) {
      if (!signal.aborted) for (const p of batch) this.tell(p.id, e);
    }
  }
}

/** batches parts panels so that no query has too many expressions. */
export function batches(panels: Wanted[], w: Window): Wanted[][] {
  const out: Wanted[][] = [];
  let size = BATCH;
  for (const p of panels) {
    const n = p.exprs(w).length;
    if (size + n > BATCH) {
      out.push([]);
      size = 0;
    }
    out[out.length - 1]?.push(p);
    size += n;
  }
  return out;
}
