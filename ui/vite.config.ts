import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/**
 * Puts the script that sets the theme into <head> as a file of its own: it has
 * to run before the first paint, and the content security policy allows no
 * inline script.
 */
function themeScript(): Plugin {
  const source = readFileSync(new URL("./src/theme-boot.js", import.meta.url), "utf8");
  const hash = createHash("sha256").update(source).digest("hex").slice(0, 8);
  const fileName = `assets/theme-${hash}.js`;
  let dev = false;
  return {
    name: "panoptes-theme-script",
    configResolved(c) {
      dev = c.command === "serve";
    },
    generateBundle() {
      this.emitFile({ type: "asset", fileName, source });
    },
    transformIndexHtml: {
      order: "post",
      handler: (html) =>
        html.replace(
          "<!--theme-->",
          `<script src="${dev ? "/src/theme-boot.js" : "./" + fileName}"></script>`,
        ),
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [react(), themeScript()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "react", test: /node_modules[\\/](react|react-dom|scheduler)[\\/]/ },
            {
              name: "promql",
              test: /node_modules[\\/](@codemirror|@lezer|@prometheus-io|style-mod|w3c-keyname|crelt|lru-cache)[\\/]/,
            },
            { name: "uplot", test: /node_modules[\\/]uplot[\\/]/ },
          ],
        },
      },
    },
  },
  server: {
    port: 5173,
    proxy: Object.fromEntries(
      ["/v1", "/api", "/login", "/-/"].map((p) => [
        p,
        { target: process.env.PANOPTES_SERVER ?? "http://127.0.0.1:9700", changeOrigin: true },
      ]),
    ),
  },
  test: {
    environment: "happy-dom",
    setupFiles: ["./test/setup.ts"],
    include: ["src/**/*.test.{ts,tsx}"],
    css: false,
    // Typing is simulated key by key, which takes its time on a busy machine.
    testTimeout: 30_000,
  },
} as Parameters<typeof defineConfig>[0]);
