import "@testing-library/jest-dom/vitest";
import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";
import { loadLanguage } from "../src/i18n/i18n";

// A busy machine takes its time to draw what is waited for.
configure({ asyncUtilTimeout: 15_000 });
await loadLanguage("en");
afterEach(() => {
  cleanup();
  localStorage.clear();
});
