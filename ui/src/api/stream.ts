import type { QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { ApiError, open } from "./client";
import { applyMessage, type StreamMessage } from "./streamApply";
import { SSEParser } from "./sse";

/**
 * One stream per browser: the tab that holds the lock reads /v1/stream and
 * hands every message to the others. Browsers open six connections to a host
 * over all tabs; a stream in each would starve them.
 */

export type LiveState = "connecting" | "live" | "polling" | "stale";

let state: LiveState = "connecting";
const listeners = new Set<() => void>();
function setState(s: LiveState) {
  if (s === state) return;
  state = s;
  listeners.forEach((f) => f());
}
const subscribe = (f: () => void) => {
  listeners.add(f);
  return () => listeners.delete(f);
};
export const useLive = () => useSyncExternalStore(subscribe, () => state);

type Wire = { kind: "message"; m: StreamMessage } | { kind: "state"; state: LiveState };
const SILENCE_MS = 45_000;
const POLL_MS = 10_000;
const HIDDEN_MS = 30_000;

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((done) => {
    const id = setTimeout(done, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(id);
      done();
    });
  });

/** startStream runs until the page goes away. */
export function startStream(qc: QueryClient): () => void {
  const stop = new AbortController();
  const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("panoptes-stream") : null;
  let heard = Date.now();
  const onWire = (w: Wire) => {
    // That the line is being sought is no sign of life.
    if (w.kind === "message" || w.state === "live") heard = Date.now();
    if (w.kind === "message") return applyMessage(qc, w.m);
    const missed = w.state === "live" && (state === "stale" || state === "polling");
    setState(w.state);
    if (missed) void qc.invalidateQueries({ refetchType: "active" });
  };
  const tell = (w: Wire) => {
    onWire(w);
    channel?.postMessage(w);
  };
  if (channel) channel.onmessage = (e: MessageEvent<Wire>) => onWire(e.data);

  // Whoever hears nothing asks for itself.
  const poll = setInterval(() => {
    if (document.hidden || Date.now() - heard < (state === "live" ? SILENCE_MS : POLL_MS)) return;
    void refresh(qc).then((ok) => setState(ok ? "polling" : "stale"));
  }, POLL_MS);

  const lead = () => leadWhileVisible(tell, stop.signal);
  if (navigator.locks) {
    void navigator.locks.request("panoptes-stream", { signal: stop.signal }, lead).catch(() => undefined);
  } else {
    void lead();
  }
  return () => {
    stop.abort();
    clearInterval(poll);
    channel?.close();
  };
}

async function refresh(qc: QueryClient): Promise<boolean> {
  await qc.invalidateQueries({ refetchType: "active" });
  return !qc
    .getQueryCache()
    .getAll()
    .some((q) => q.isActive() && q.state.fetchFailureReason !== null);
}

/** leadWhileVisible reads the stream; hidden for long, it lets go of the line until somebody looks again. */
async function leadWhileVisible(tell: (w: Wire) => void, stop: AbortSignal): Promise<void> {
  let lastID = "";
  let wait = 1000;
  let lost = false;
  while (!stop.aborted) {
    await visible(stop);
    const line = new AbortController();
    const end = () => line.abort();
    stop.addEventListener("abort", end);
    const unwatch = whenHiddenFor(HIDDEN_MS, end);
    try {
      lastID = await readStream(lastID, line, (w) => {
        wait = 1000;
        lost = false;
        tell(w);
      });
    } catch (e) {
      // Whatever broke the line, the next round tries again; one that cannot even begin finds nobody.
      if (lost && e instanceof ApiError && e.code === "network") tell({ kind: "state", state: "stale" });
    }
    unwatch();
    stop.removeEventListener("abort", end);
    if (stop.aborted) return;
    if (!document.hidden) {
      if (!lost) tell({ kind: "state", state: "connecting" });
      lost = true;
      await pause(wait * (0.75 + Math.random() / 2), stop);
      wait = Math.min(wait * 2, 8_000);
    }
  }
}

async function readStream(lastID: string, line: AbortController, tell: (w: Wire) => void): Promise<string> {
  let id = lastID;
  let watchdog = 0;
  const feed = () => {
    clearTimeout(watchdog);
    watchdog = window.setTimeout(() => line.abort(), SILENCE_MS);
  };
  feed();
  try {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (id) headers["Last-Event-ID"] = id;
    const res = await open("GET", "v1/stream", { headers, signal: line.signal });
    const reader = res.body?.pipeThrough(new TextDecoderStream()).getReader();
    if (!reader) return id;
    tell({ kind: "state", state: "live" });
    const parser = new SSEParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return id;
      feed();
      const messages = parser.push(value);
      if (!messages.length) tell({ kind: "state", state: "live" });
      for (const m of messages) {
        if (m.id) id = m.id;
        tell({ kind: "message", m: { event: m.event, data: m.data } });
      }
    }
  } finally {
    clearTimeout(watchdog);
  }
}

function visible(stop: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    const look = () => {
      if (document.hidden && !stop.aborted) return;
      document.removeEventListener("visibilitychange", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
    stop.addEventListener("abort", look);
  });
}

function whenHiddenFor(ms: number, f: () => void): () => void {
  let id = 0;
  const look = () => {
    clearTimeout(id);
    if (document.hidden) id = window.setTimeout(f, ms);
  };
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(id);
    document.removeEventListener("visibilitychange", look);
  };
}
