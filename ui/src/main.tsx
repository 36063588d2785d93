import "@mantine/core/styles/baseline.css";
import "@mantine/core/styles/default-css-variables.css";
import "@mantine/core/styles/global.css";
import "@mantine/core/styles/UnstyledButton.css";
import "@mantine/core/styles/Loader.css";
import "@mantine/core/styles/Button.css";
import "@mantine/core/styles/Input.css";
import "@mantine/core/styles/PasswordInput.css";
import "@mantine/core/styles/ActionIcon.css";
import "@mantine/core/styles/InlineInput.css";
import "@mantine/core/styles/Checkbox.css";
import "@mantine/core/styles/Switch.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/parts.css";
import "./styles/views.css";
import "./styles/servers.css";
import { QueryClient } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";
import { boot } from "./api/boot";
import { ApiError } from "./api/client";
import { App } from "./app";
import { loadLanguage, preferredLanguage } from "./i18n/i18n";
import { StartFailure } from "./features/shell/StartFailure";

const root = createRoot(document.getElementById("root") ?? document.body);

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      refetchOnWindowFocus: true,
      // What the server refuses it refuses again; only lost lines are worth another try.
      retry: (n, e) => n < 2 && e instanceof ApiError && (e.code === "network" || e.status >= 502),
    },
  },
});

async function start() {
  const first = boot();
  await loadLanguage(preferredLanguage());
  try {
    const me = await first;
    if (me.nonce) (globalThis as { __webpack_nonce__?: string }).__webpack_nonce__ = me.nonce;
    if (!localStorage.getItem("panoptes.language")) await loadLanguage(preferredLanguage(me.user.language));
    root.render(<App boot={me} queries={queries} />);
  } catch (e) {
    if (e instanceof ApiError && e.status === 401) return;
    root.render(<StartFailure error={e} />);
  }
}

void start();
