import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeAll, expect, test } from "vitest";
import { cluster, info, node } from "../../../test/cluster";
import { answer, show } from "../../../test/wrap";
import { ConfirmHost } from "../../components/confirm";
import { ClusterStrip } from "../shell/ClusterStrip";
import ServersPage from "./ServersPage";
import ServerPage from "./ServerPage";
import { Route } from "wouter";

beforeAll(() => {
  // happy-dom has dialogs, but not all of their behaviour.
  HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
    this.open = true;
  };
});

const [n1, n2, n3] = cluster();
const cut = [
  { ...n1, views: { n2: "dead", n3: "dead" } as const },
  { ...n2, state: "dead" as const, views: null, health: null },
  { ...n3, state: "dead" as const, views: null, health: null },
];
const ca = {
  roots: [{ subject: "panoptes C", not_after: "2036-11-20T00:00:00Z", key_hash: "abcdef", current: true }],
  state: "stable",
  ready: false,
};
const routes = (nodes: object[], more: Parameters<typeof answer>[0] = {}) => ({
  "GET /v1/nodes": () => [200, { items: nodes }] as [number, unknown],
  "GET /v1/cluster": () => [200, info()] as [number, unknown],
  "GET /v1/tokens": () => [200, { items: [] }] as [number, unknown],
  "GET /v1/regions": () => [200, { items: [{ id: "r", name: "eu" }] }] as [number, unknown],
  "GET /v1/cluster/ca": () => [200, ca] as [number, unknown],
  "GET /v1/events": () => [200, { items: [], next: "" }] as [number, unknown],
  ...more,
});

test("one server is told what three bring", async () => {
  answer(routes([node("n1", { self: true, control: "leader" })]));
  show(<ServersPage />, "/servers", "admin");
  expect(await screen.findByText("What three servers bring")).toBeVisible();
  expect(screen.queryByText("Who sees whom")).toBeNull();
  expect(screen.getByRole("button", { name: "Add a witness" })).toBeVisible();
});

test("the matrix says who sees whom, and a cut stands out", async () => {
  answer(routes(cut));
  show(<ServersPage />, "/servers");
  const table = await screen.findByRole("table");
  expect(within(table).getByText("n1 sees n2: not reached")).toBeInTheDocument();
  expect(within(table).getAllByText("n2 has not been heard")).toHaveLength(2);
  expect(within(table).getAllByText("not reached", { selector: "th small" })).toHaveLength(2);
  expect(table.querySelectorAll("td.seen-down")).toHaveLength(2);
  // Viewers and editors change nothing here.
  expect(screen.queryByRole("button", { name: /Add/ })).toBeNull();
  expect(screen.queryByText("Tokens")).toBeNull();
});

test("a token is made and the whole command is shown", async () => {
  const calls = answer(
    routes(cluster(), {
      "POST /v1/tokens": () => [
        201,
        {
          id: "T1",
          role: "witness",
          region: "",
          expires: "2036-01-01T00:00:00Z",
          uses: 1,
          token: "pnp1.h.T1.s",
        },
      ],
    }),
  );
  show(<ServersPage />, "/servers", "admin");
  await userEvent.click(await screen.findByRole("button", { name: "Add a server or agent" }));
  const dialog = await screen.findByRole("dialog", {}, { timeout: 15_000 });
  await userEvent.click(within(dialog).getByRole("button", { name: "witness" }));
  await userEvent.type(within(dialog).getByLabelText("Name of the new machine"), "w1");
  await userEvent.click(within(dialog).getByRole("button", { name: "Make the command" }));
  const command = await screen.findByTestId("join");
  expect(command).toHaveTextContent(
    "panoptes server --witness --node w1 --region REGION --data-dir /var/lib/panoptes --bind ADDRESS --join 10.0.0.1:9701 --token pnp1.h.T1.s",
  );
  expect(calls.find((c) => c.method === "POST")?.body).toEqual({ role: "witness", ttl: "1h" });
  expect(screen.getByText("Replace the words in capitals first.")).toBeVisible();
});

test("hosts that run checks need a region, and the command switches it on", async () => {
  const calls = answer(
    routes(cluster(), {
      "POST /v1/tokens": () => [
        201,
        {
          id: "T1",
          role: "agent",
          region: "eu",
          checks: true,
          expires: "2036-01-01T00:00:00Z",
          uses: 100,
          token: "pnp1.h.T1.s",
        },
      ],
      "POST /v1/agent-install": () => [200, { linux: "sh install.sh --region eu --checks" }],
    }),
  );
  show(<ServersPage />, "/servers", "admin");
  await userEvent.click(await screen.findByRole("button", { name: "Add a server or agent" }));
  const dialog = await screen.findByRole("dialog", {}, { timeout: 15_000 });
  expect(within(dialog).queryByRole("checkbox")).toBeNull();
  await userEvent.click(within(dialog).getByRole("button", { name: "agent" }));
  const box = within(dialog).getByRole("checkbox", { name: "Hosts run checks from there" });
  expect(within(dialog).getByText(/their results vote for it/)).toBeVisible();
  const region = within(dialog).getByLabelText(/^Region/);
  expect(region).not.toBeRequired();
  // By the keyboard alone.
  box.focus();
  await userEvent.keyboard(" ");
  expect(box).toBeChecked();
  expect(region).toBeRequired();
  await userEvent.click(within(dialog).getByRole("button", { name: "Make the command" }));
  expect(await within(dialog).findByText("Name the region: these hosts vote for it")).toBeVisible();
  expect(calls.some((c) => c.method === "POST")).toBe(false);
  await userEvent.type(region, "eu");
  await userEvent.click(within(dialog).getByRole("button", { name: "Make the command" }));
  expect(await screen.findByTestId("join")).toHaveTextContent("sh install.sh --region eu --checks");
  expect(calls.find((c) => c.method === "POST")?.body).toEqual({
    role: "agent",
    region: "eu",
    checks: true,
    ttl: "1h",
  });
  const install = calls.find((c) => c.path === "/v1/agent-install");
  expect(install?.search).toBe("");
  expect(install?.body).toEqual({ token: "pnp1.h.T1.s", region: "eu", checks: true });
});

test("what the server refuses stands at its field", async () => {
  answer(
    routes(cluster(), {
      "POST /v1/tokens": () => [
        400,
        {
          error: {
            code: "invalid",
            message: "uses: must lie between 1 and 10",
            field: "uses",
            fields: [{ field: "uses", message: "must lie between 1 and 10" }],
          },
        },
      ],
    }),
  );
  show(<ServersPage />, "/servers", "admin");
  await userEvent.click(await screen.findByRole("button", { name: "Add a server or agent" }));
  await userEvent.type(await screen.findByLabelText("How many may join with it"), "99");
  await userEvent.click(screen.getByRole("button", { name: "Make the command" }));
  expect(await screen.findByText("must lie between 1 and 10")).toBeVisible();
});

test("a live server is removed by force, and only after a question", async () => {
  const calls = answer(routes(cluster(), { "DELETE /v1/nodes/ID-n2": () => [200, {}] }));
  const { location } = show(
    <>
      <Route path="/servers/:id" component={ServerPage} />
      <ConfirmHost />
    </>,
    "/servers/n2",
    "admin",
  );
  await userEvent.click(await screen.findByRole("button", { name: "Remove" }));
  const ask = await screen.findByRole("dialog", {}, { timeout: 15_000 });
  expect(ask).toHaveTextContent("It is alive.");
  expect(calls.some((c) => c.method === "DELETE")).toBe(false);
  await userEvent.click(within(ask).getByRole("button", { name: "Remove" }));
  await waitFor(() =>
    expect(calls.some((c) => c.method === "DELETE" && c.search === "?force=true")).toBe(true),
  );
  await waitFor(() => expect(location.history?.at(-1)).toBe("/servers"));
});

test("draining is sent as what it is to become", async () => {
  const calls = answer(
    routes([n1, { ...n2, draining: true }, n3], { "POST /v1/nodes/ID-n2/drain": () => [200, n2] }),
  );
  show(<Route path="/servers/:id" component={ServerPage} />, "/servers/ID-n2", "admin");
  await userEvent.click(await screen.findByRole("button", { name: "End draining" }));
  await waitFor(() => expect(calls.find((c) => c.method === "POST")?.body).toEqual({ draining: false }));
});

test("the strip names who is away and what still works", async () => {
  answer(routes(cut));
  const me = {
    user: { name: "a", role: "viewer" as const },
    server: { name: "s", version: "1", node: "n1" },
    writable: false,
    writable_reason: "no quorum",
  };
  const { rerenderUI } = show(<ClusterStrip me={me} cluster={info({ split: true, writable: false })} />);
  expect(await screen.findByText(/n2, n3 are not reached from here/)).toBeVisible();
  expect(screen.getByRole("alert")).toHaveTextContent(
    "Configuration cannot be changed on this side; watching and warning go on.",
  );
  rerenderUI(<ClusterStrip me={{ ...me, writable: true }} cluster={info({ split: true })} />);
  expect(screen.getByRole("alert")).toHaveTextContent("Everything works on this side.");
  rerenderUI(<ClusterStrip me={me} cluster={info({ writable: false, reason: "1 of 3 voters" })} />);
  expect(screen.getByRole("status")).toHaveTextContent("1 of 3 voters");
  rerenderUI(<ClusterStrip me={{ ...me, writable: true }} cluster={info()} />);
  expect(screen.queryByRole("status")).toBeNull();
});

test("the comparison says what came of it", async () => {
  answer(
    routes(cluster(), {
      "POST /v1/cluster/check": () => [200, { windows: 24, mismatches: 2, repaired: 2, seconds: 1.5 }],
    }),
  );
  show(<ServersPage />, "/servers", "admin");
  await userEvent.click(await screen.findByRole("button", { name: "Compare now" }));
  expect(await screen.findByText("24 windows compared in 1.5 s: 2 differed, 2 repaired")).toBeVisible();
});
