import type { Field, KindType } from "../../api/types";
import { language, pick, type useT } from "../../i18n/i18n";

type T = ReturnType<typeof useT>["t"];
const text = (s: string) => ({ [language()]: s });

/** mainFields are the few that every check needs. */
export function mainFields(kind: KindType, t: T): Field[] {
  const f = (name: string, type: Field["type"], label: string, more: Partial<Field> = {}): Field => ({
    name,
    type,
    label: text(label),
    ...more,
  });
  return [
    f("name", "string", t("checks.name"), { required: true }),
    ...(kind.name === "push"
      ? []
      : [
          f("target", "string", pick(kind.target?.label, t("editor.target")), {
            required: true,
            default: kind.target?.placeholder ?? "",
          }),
        ]),
    f("interval", "duration", t("editor.interval"), { default: kind.name === "push" ? "5m" : "60s" }),
    f("timeout", "duration", t("editor.timeout"), { default: "10s" }),
    f("severity", "enum", t("editor.severity"), {
      enum: ["critical", "warning", "info"],
      default: "critical",
    }),
    f("labels", "map", t("editor.labels"), { help: text(t("editor.labels.help")) }),
  ];
}

/** advancedFields say from where a check runs and when it counts as down. */
export function advancedFields(t: T): Field[] {
  const f = (name: string, type: Field["type"], label: string, more: Partial<Field> = {}): Field => ({
    name,
    type,
    label: text(label),
    ...more,
  });
  return [
    f("regions", "list", t("editor.regions"), { default: "*", help: text(t("editor.regions.help")) }),
    f("policy", "string", t("editor.policy"), { default: "majority", help: text(t("editor.policy.help")) }),
    f("retries", "int", t("editor.retries"), { default: "0", help: text(t("editor.retries.help")) }),
    f("recover_after", "int", t("editor.recover"), { default: "1", help: text(t("editor.recover.help")) }),
    f("copies", "int", t("editor.copies"), { default: "1", help: text(t("editor.copies.help")) }),
    f("parent", "string", t("editor.parent"), { help: text(t("editor.parent.help")) }),
    f("description", "text", t("editor.description")),
    f("inverted", "bool", t("editor.inverted")),
  ];
}
