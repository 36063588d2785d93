import type { MantineColorSchemeManager } from "@mantine/core";
import { storedMode } from "./theme";

/** modeManager keeps the choice of light, dark or auto where theme-boot.js reads it. */
export const modeManager: MantineColorSchemeManager = (() => {
  let onStorage: ((e: StorageEvent) => void) | undefined;
  return {
    get: () => storedMode(),
    set: (v) => localStorage.setItem("panoptes.theme", v),
    subscribe: (update) => {
      onStorage = (e) => e.key === "panoptes.theme" && update(storedMode());
      addEventListener("storage", onStorage);
    },
    unsubscribe: () => onStorage && removeEventListener("storage", onStorage),
    clear: () => localStorage.removeItem("panoptes.theme"),
  };
})();
