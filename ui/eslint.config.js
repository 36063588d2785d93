import js from "@eslint/js";
import jsxA11y from "eslint-plugin-jsx-a11y";
import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "coverage/"] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  {
    files: ["src/**/*.{ts,tsx}"],
    extends: [reactHooks.configs.flat.recommended, jsxA11y.flatConfigs.recommended],
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "jsx-a11y/no-autofocus": "off",
    },
  },
  {
    // One place fetches, so that errors, sessions and base paths are treated once.
    files: ["src/**/*.{ts,tsx}"],
    ignores: ["src/api/**"],
    rules: { "no-restricted-globals": ["error", { name: "fetch", message: "use src/api/client.ts" }] },
  },
  {
    files: ["journeys/**/*.mjs", "*.js", "src/theme-boot.js"],
    languageOptions: {
      globals: Object.fromEntries(
        [
          "process",
          "console",
          "document",
          "window",
          "localStorage",
          "matchMedia",
          "fetch",
          "URL",
          "setTimeout",
          "getComputedStyle",
          "innerWidth",
        ].map((k) => [k, "readonly"]),
      ),
    },
  },
);
