import type { InfiniteData, QueryClient, QueryKey } from "@tanstack/react-query";
import type { Host, HostDetail, HostPage, HostRow } from "./hosts";
import type { Check, CheckPage, CheckState, Event, Overview } from "./types";

export interface StreamMessage {
  event: string;
  data: string;
}

const PLURALS: Record<string, QueryKey[]> = {
  check: [["checks"]],
  receiver: [["receivers"]],
  route: [["routes"]],
  maintenance: [["maintenances"]],
  rules: [["rules"], ["rule-groups"]],
  scrape: [["scrapes"], ["scrape-targets"]],
  user: [["users"]],
  key: [["keys"]],
  silence: [["silences"], ["alerts"]],
  region: [["regions"]],
  setting: [["settings"]],
  node: [["nodes"], ["cluster"], ["hosts"]],
  hostgroup: [["hostgroups"], ["hosts"]],
  token: [["tokens"]],
};

/** applyMessage brings the cache up to date with one message of the stream. */
export function applyMessage(qc: QueryClient, m: StreamMessage): void {
  if (m.event === "hello") return;
  if (m.event === "reload") {
    void qc.invalidateQueries();
    return;
  }
  if (m.event === "nodes") {
    // People must learn at once that the network is cut or nothing can be saved.
    for (const key of [["cluster"], ["nodes"], ["me"]]) later(qc, key, 200);
    return;
  }
  let data: unknown;
  try {
    data = JSON.parse(m.data);
  } catch {
    return;
  }
  if (m.event === "check") applyCheck(qc, data as { id: string; name: string; state: CheckState });
  else if (m.event === "host") hostChanged(qc, data as Host);
  else if (m.event === "event") applyEvent(qc, data as Event);
  else if (m.event === "record") {
    for (const key of PLURALS[(data as { kind: string }).kind] ?? []) later(qc, key);
    later(qc, ["overview"]);
  } else if (m.event === "health") {
    qc.setQueryData<Overview>(
      ["overview"],
      (o) => o && { ...o, health: { ...o.health, ...(data as Overview["health"]) } },
    );
  }
}

function applyCheck(qc: QueryClient, c: { id: string; name: string; state: CheckState }): void {
  const swap = (x: Check): Check => (x.id === c.id ? { ...x, state: { ...x.state, ...c.state } } : x);
  let changed = false;
  for (const [key, value] of qc.getQueriesData<unknown>({ queryKey: ["checks"] })) {
    if (!value) continue;
    if (key[1] === "list") {
      qc.setQueryData<InfiniteData<CheckPage>>(key, (d) => {
        if (!d) return d;
        changed ||= d.pages.some((p) =>
          p.items?.some((x) => x.id === c.id && x.state?.status !== c.state.status),
        );
        return { ...d, pages: d.pages.map((p) => ({ ...p, items: p.items?.map(swap) ?? null })) };
      });
    } else if (key[1] === "fleet" || key[1] === "search") {
      qc.setQueryData<CheckPage>(key, (p) => p && { ...p, items: p.items?.map(swap) ?? null });
    } else if (key[1] === "one" && key.length === 3) {
      qc.setQueryData<Check>(key, (x) => x && swap(x));
    }
  }
  if (changed) later(qc, ["checks", "list"]);
  later(qc, ["overview"]);
}

const hosts = new Map<string, Host>();

/** hostChanged gathers changes for a moment: when a region falls silent, hundreds come at once. */
function hostChanged(qc: QueryClient, h: Host): void {
  if (!hosts.size) setTimeout(() => applyHosts(qc), 300);
  hosts.set(h.id, h);
}

function applyHosts(qc: QueryClient): void {
  const news = new Map(hosts);
  hosts.clear();
  const swap = <T extends HostRow>(x: T): T => {
    const h = news.get(x.id);
    return h ? { ...x, message: "", code: "", evidence: null, ...h } : x;
  };
  qc.setQueriesData<InfiniteData<HostPage>>(
    { queryKey: ["hosts", "list"] },
    (d) => d && { ...d, pages: d.pages.map((p) => ({ ...p, items: p.items?.map(swap) ?? null })) },
  );
  for (const [key, value] of qc.getQueriesData<HostDetail>({ queryKey: ["hosts", "one"] }))
    if (key.length === 3 && value && news.has(value.id)) qc.setQueryData<HostDetail>(key, swap(value));
  // Order and counts follow from the server.
  later(qc, ["hosts", "list"], 3000);
  later(qc, ["hosts", "glance"], 3000);
}

function applyEvent(qc: QueryClient, e: Event): void {
  if (e.kind === "alert") later(qc, ["alerts"]);
  if (e.kind === "state" || e.kind === "alert") {
    qc.setQueryData<Overview>(["overview"], (o) =>
      o && !o.events?.some((x) => x.id === e.id)
        ? { ...o, events: [e, ...(o.events ?? [])].slice(0, 20) }
        : o,
    );
    later(qc, ["overview"]);
  }
  if (e.kind === "state" && e.subject.startsWith("check/")) later(qc, ["checks", "one", e.subject.slice(6)]);
  later(qc, ["events"]);
}

const due = new Map<string, number>();

/** later asks again once for a burst of changes. */
function later(qc: QueryClient, key: QueryKey, ms = 1500): void {
  const k = JSON.stringify(key);
  if (due.has(k)) return;
  due.set(
    k,
    window.setTimeout(() => {
      due.delete(k);
      void qc.invalidateQueries({ queryKey: key });
    }, ms),
  );
}
