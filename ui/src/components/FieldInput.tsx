import { Checkbox, NativeSelect, PasswordInput, Textarea, TextInput } from "@mantine/core";
import { useState } from "react";
import type { Field, Json } from "../api/types";
import { pick, tMaybe, useT } from "../i18n/i18n";
import { fromText, listItems, REDACTED, structured, toText } from "../lib/fields";

interface Props {
  field: Field;
  value: Json | undefined;
  onChange: (v: Json | undefined) => void;
  error?: string | undefined;
}

/** FieldInput is the input for one described field, by its type. */
export function FieldInput({ field: f, value, onChange, error }: Props) {
  const { t } = useT();
  const common = {
    label: pick(f.label, f.name),
    description: pick(f.help) || undefined,
    error,
    placeholder: f.default || undefined,
    required: f.required === true,
    // The API names fields this way in its errors; tests and scripts find them by it.
    "data-field": f.name,
  };
  const text = (v: string) => onChange(fromText(f.type, v));
  switch (f.type) {
    case "bool":
      return (
        <Checkbox
          label={common.label}
          description={common.description}
          error={error}
          data-field={f.name}
          checked={value === undefined ? f.default === "true" : value === true}
          onChange={(e) =>
            onChange(e.currentTarget.checked === (f.default === "true") ? undefined : e.currentTarget.checked)
          }
        />
      );
    case "enum": {
      const options = f.enum ?? [];
      const word = (v: string) =>
        f.name === "role" || f.name === "severity" ? (tMaybe(`${f.name}.${v}`) ?? v) : v;
      return (
        <NativeSelect
          {...common}
          value={toText(value)}
          onChange={(e) => text(e.currentTarget.value)}
          data={[
            ...(options.includes("")
              ? []
              : [{ value: "", label: f.default ? t("field.default", { value: word(f.default) }) : "–" }]),
            ...options.map((o) => ({ value: o, label: word(o) || "–" })),
          ]}
        />
      );
    }
    case "secret":
      return (
        <PasswordInput
          {...common}
          autoComplete="new-password"
          placeholder={value === REDACTED ? t("field.kept") : undefined}
          value={value === REDACTED ? "" : toText(value)}
          // Emptied again, the stored secret stays; only "clear" removes it.
          onChange={(e) => text(e.currentTarget.value)}
        />
      );
    case "text":
      return (
        <Textarea
          {...common}
          rows={4}
          resize="vertical"
          value={toText(value)}
          onChange={(e) => text(e.currentTarget.value)}
        />
      );
    case "list":
      return structured(value) ? (
        <JsonInput {...common} value={value} onChange={onChange} />
      ) : (
        <LinesInput {...common} value={value} onChange={onChange} />
      );
    case "map":
      return structured(value) ? (
        <JsonInput {...common} value={value} onChange={onChange} />
      ) : (
        <MapInput {...common} value={value} onChange={onChange} />
      );
    case "object":
      return <JsonInput {...common} value={value} onChange={onChange} />;
    default:
      return (
        <TextInput
          {...common}
          inputMode={f.type === "int" ? "numeric" : f.type === "float" ? "decimal" : "text"}
          value={toText(value)}
          onChange={(e) => text(e.currentTarget.value)}
        />
      );
  }
}

interface PartProps {
  label: string;
  description?: string | undefined;
  error?: string | undefined;
  placeholder?: string | undefined;
  value: Json | undefined;
  onChange: (v: Json | undefined) => void;
}

/** useDraft keeps what is typed while it is not (yet) what the value says. */
function useDraft(
  value: Json | undefined,
  show: (v: Json | undefined) => string,
  read: (s: string) => Json | undefined,
) {
  const [draft, setDraft] = useState(() => show(value));
  const [seen, setSeen] = useState(() => JSON.stringify(value));
  const now = JSON.stringify(value);
  if (seen !== now) {
    setSeen(now);
    let same = false;
    try {
      same = JSON.stringify(read(draft)) === now;
    } catch {
      // What is typed cannot be read; the new value replaces it.
    }
    if (!same) setDraft(show(value));
  }
  return [draft, setDraft] as const;
}

const showLines = (v: Json | undefined) => listItems(v).join("\n");
const readLines = (s: string): Json | undefined => {
  const items = s
    .split("\n")
    .map((l) => l.trim())
    .filter(Boolean);
  return items.length ? items : undefined;
};

/** LinesInput edits a list of texts, one a line. */
export function LinesInput({ value, onChange, description, ...rest }: PartProps) {
  const { t } = useT();
  const [draft, setDraft] = useDraft(value, showLines, readLines);
  return (
    <Textarea
      {...rest}
      description={description ?? t("field.lines")}
      autosize={false}
      rows={Math.min(6, Math.max(2, draft.split("\n").length))}
      resize="vertical"
      value={draft}
      onChange={(e) => {
        setDraft(e.currentTarget.value);
        onChange(readLines(e.currentTarget.value));
      }}
    />
  );
}

const showMap = (v: Json | undefined) =>
  typeof v === "object" && v !== null && !Array.isArray(v)
    ? Object.entries(v)
        .map(([k, x]) => `${k}: ${toText(x)}`)
        .join("\n")
    : "";
/** readMap reads "name: value" or "name=value" lines. */
export const readMap = (s: string): Json | undefined => {
  const out: Record<string, string> = {};
  for (const l of s.split("\n")) {
    const m = /^\s*([^:=]+?)\s*[:=]\s*(.*?)\s*$/.exec(l);
    if (m?.[1]) out[m[1]] = m[2] ?? "";
    else if (l.trim()) out[l.trim()] = "";
  }
  return Object.keys(out).length ? out : undefined;
};

/** MapInput edits names with values, "name: value" a line. */
export function MapInput({ value, onChange, description, ...rest }: PartProps) {
  const { t } = useT();
  const [draft, setDraft] = useDraft(value, showMap, readMap);
  return (
    <Textarea
      {...rest}
      description={description ?? t("field.map")}
      rows={Math.min(6, Math.max(2, draft.split("\n").length))}
      resize="vertical"
      value={draft}
      onChange={(e) => {
        setDraft(e.currentTarget.value);
        onChange(readMap(e.currentTarget.value));
      }}
    />
  );
}

const showJson = (v: Json | undefined) => (v === undefined ? "" : JSON.stringify(v, null, 2));

/** JsonInput edits what has no form of its own. */
export function JsonInput({ value, onChange, error, rows = 5, ...rest }: PartProps & { rows?: number }) {
  const { t } = useT();
  const [draft, setDraft] = useDraft(value, showJson, (s) =>
    s.trim() ? (JSON.parse(s) as Json) : undefined,
  );
  const [bad, setBad] = useState("");
  return (
    <Textarea
      {...rest}
      error={bad || error}
      rows={rows}
      resize="vertical"
      spellCheck={false}
      classNames={{ input: "mono" }}
      value={draft}
      onChange={(e) => {
        const s = e.currentTarget.value;
        setDraft(s);
        try {
          onChange(s.trim() ? (JSON.parse(s) as Json) : undefined);
          setBad("");
        } catch (err) {
          setBad(t("field.json", { reason: err instanceof Error ? err.message : "" }));
        }
      }}
    />
  );
}
