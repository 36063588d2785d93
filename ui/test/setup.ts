import "@testing-library/jest-dom/vitest";
import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";
import { loadLanguage } from "../src/i18n/i18n";

await loadLanguage("en");
afterEach(() => {
  cleanup();
  localStorage.clear();
});
