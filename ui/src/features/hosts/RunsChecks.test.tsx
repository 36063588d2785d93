import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeAll, expect, test } from "vitest";
import { answer, show } from "../../../test/wrap";
import type { HostDetail } from "../../api/hosts";
import type { Role } from "../../api/types";
import { ConfirmHost } from "../../components/confirm";
import { loadLanguage } from "../../i18n/i18n";
import { RunsChecks } from "./RunsChecks";

beforeAll(() => {
  // happy-dom has dialogs, but not all of their behaviour.
  HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
    this.open = true;
  };
});
afterEach(() => loadLanguage("en"));

const host = (more: Partial<HostDetail>): HostDetail => ({
  id: "H1",
  name: "web-1",
  region: "eu",
  status: "online",
  since: "2026-11-20T08:00:00Z",
  ...more,
});
const open = (more: Partial<HostDetail>, role: Role = "admin") => {
  const calls = answer({ "PATCH /v1/hosts/H1": () => [200, {}] });
  const { unmount } = show(
    <>
      <RunsChecks h={host(more)} />
      <ConfirmHost />
    </>,
    "/hosts/H1",
    role,
  );
  return { calls, unmount };
};

test.each([
  [{}, "no", "否", null],
  [{ checks_offered: true }, "offers to run checks, not allowed", "可运行检查，但未获允许", "Allow"],
  [{ checks_allowed: true }, "allowed, but its agent does not offer it", "已允许，但其代理未启用", "Forbid"],
  [{ checks: true, checks_allowed: true, checks_offered: true }, "yes", "是", "Forbid"],
] as const)("%o is told in both languages", async (more, english, chinese, button) => {
  const { unmount } = open(more);
  expect(screen.getByTestId("runs-checks")).toHaveTextContent(english);
  if (button) expect(screen.getByRole("button", { name: button })).toBeVisible();
  else expect(screen.queryByRole("button")).toBeNull();
  unmount();
  await loadLanguage("zh-CN");
  open(more, "editor");
  expect(screen.getByTestId("runs-checks")).toHaveTextContent(chinese);
  expect(screen.queryByRole("button"), "editors look only").toBeNull();
});

test("it is allowed after a question, by the keyboard", async () => {
  const { calls } = open({ checks_offered: true });
  await userEvent.tab();
  expect(screen.getByRole("button", { name: "Allow" })).toHaveFocus();
  await userEvent.keyboard("{Enter}");
  const ask = await screen.findByRole("dialog", {}, { timeout: 15_000 });
  expect(ask).toHaveTextContent("the checks of the region eu, with their passwords");
  expect(calls).toHaveLength(0);
  within(ask).getByRole("button", { name: "Allow" }).focus();
  await userEvent.keyboard("{Enter}");
  await waitFor(() =>
    expect(calls).toContainEqual({
      method: "PATCH",
      path: "/v1/hosts/H1",
      search: "",
      body: { checks: true },
    }),
  );
});

test("it is taken away again", async () => {
  const { calls } = open({ checks: true, checks_allowed: true, checks_offered: true });
  await userEvent.click(screen.getByRole("button", { name: "Forbid" }));
  const ask = await screen.findByRole("dialog", {}, { timeout: 15_000 });
  await userEvent.click(within(ask).getByRole("button", { name: "Forbid" }));
  await waitFor(() => expect(calls[0]?.body).toEqual({ checks: false }));
});
