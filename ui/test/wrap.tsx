import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render } from "@testing-library/react";
import type { ReactNode } from "react";
import { Router } from "wouter";
import { memoryLocation } from "wouter/memory-location";
import type { Me, Role } from "../src/api/types";
import { Session } from "../src/session";
import { theme } from "../src/theme";

const me: Me = {
  user: { name: "ann", role: "editor" },
  server: { name: "s1", version: "1", node: "n1" },
  writable: true,
};

/** show renders a part with everything it needs around it. */
export function show(ui: ReactNode, path = "/", role: Role = "editor") {
  const location = memoryLocation({ path, record: true });
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const around = (inner: ReactNode) => (
    <MantineProvider theme={theme} env="test">
      <QueryClientProvider client={queries}>
        <Session value={{ ...me, user: { ...me.user, role } }}>
          <Router hook={location.hook} searchHook={location.searchHook}>
            {inner}
          </Router>
        </Session>
      </QueryClientProvider>
    </MantineProvider>
  );
  const view = render(around(ui));
  return { ...view, location, rerenderUI: (next: ReactNode) => view.rerender(around(next)) };
}

interface Call {
  method: string;
  path: string;
  search: string;
  body: unknown;
}

/** answer stands in for the server: the first route that fits answers, and calls are written down. */
export function answer(routes: Record<string, (c: Call) => [number, unknown]>): Call[] {
  const calls: Call[] = [];
  globalThis.fetch = ((input: RequestInfo | URL, init?: RequestInit) => {
    const u = new URL(input instanceof Request ? input.url : input);
    const c: Call = {
      method: init?.method ?? "GET",
      path: u.pathname,
      search: u.search,
      body: typeof init?.body === "string" ? JSON.parse(init.body) : undefined,
    };
    calls.push(c);
    const f = routes[`${c.method} ${c.path}`];
    const [status, body] = f ? f(c) : [404, { error: { code: "not_found", message: c.path } }];
    return Promise.resolve(
      new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } }),
    );
  }) as typeof fetch;
  return calls;
}
