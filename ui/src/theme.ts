import { createTheme, type MantineColorsTuple } from "@mantine/core";

// Shade 8 is the one that buttons are filled with; white on it passes AA.
const shades = (base: string, ...rest: string[]): MantineColorsTuple =>
  [...rest, base, base] as unknown as MantineColorsTuple;
const indigo = shades(
  "#3b5bdb",
  "#edf2ff",
  "#dbe4ff",
  "#bac8ff",
  "#91a7ff",
  "#748ffc",
  "#5c7cfa",
  "#4c6ef5",
  "#4263eb",
);
const red = shades(
  "#b91c1c",
  "#fef2f2",
  "#fee2e2",
  "#fecaca",
  "#fca5a5",
  "#f87171",
  "#ef4444",
  "#dc2626",
  "#c62020",
);
const green = shades(
  "#15803d",
  "#f0fdf4",
  "#dcfce7",
  "#bbf7d0",
  "#86efac",
  "#4ade80",
  "#22c55e",
  "#16a34a",
  "#158f41",
);

export const theme = createTheme({
  primaryColor: "indigo",
  primaryShade: 8,
  colors: { indigo, red, green },
  fontFamily:
    'system-ui, -apple-system, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", sans-serif',
  fontFamilyMonospace:
    'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace',
  fontSizes: { xs: "12px", sm: "13px", md: "14px", lg: "16px", xl: "18px" },
  defaultRadius: "md",
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: "sm" } },
    TextInput: { defaultProps: { size: "sm" } },
    PasswordInput: { defaultProps: { size: "sm" } },
    Textarea: { defaultProps: { size: "sm" } },
    NativeSelect: { defaultProps: { size: "sm" } },
  },
});

export type Mode = "auto" | "light" | "dark";
export const MODES: Mode[] = ["auto", "light", "dark"];

export function storedMode(): Mode {
  const m = localStorage.getItem("panoptes.theme");
  return m === "light" || m === "dark" ? m : "auto";
}
