import { TextInput } from "@mantine/core";
import { useState } from "react";
import { useT } from "../i18n/i18n";
import { normalizeMatcher } from "../lib/matchers";
import { Icon } from "./icons";

interface Props {
  value: string[];
  onChange: (v: string[]) => void;
  label: string;
  filter?: boolean;
  error?: string | undefined;
}

/** MatcherInput holds matchers as chips; Enter or a comma adds what is typed. */
export function MatcherInput({ value, onChange, label, filter = false, error }: Props) {
  const { t } = useT();
  const [text, setText] = useState("");
  const [bad, setBad] = useState(false);
  const add = () => {
    if (!text.trim()) return;
    const m = normalizeMatcher(text);
    setBad(!m);
    if (!m) return;
    if (!value.includes(m)) onChange([...value, m]);
    setText("");
  };
  return (
    <div className="matchers">
      {value.map((m) => (
        <button
          key={m}
          type="button"
          className="chip on mono"
          aria-label={t("filters.remove", { name: m })}
          onClick={() => onChange(value.filter((x) => x !== m))}
        >
          {m}
          <Icon name="close" size={12} />
        </button>
      ))}
      <TextInput
        aria-label={label}
        placeholder={t("matchers.placeholder")}
        {...(filter ? { "data-filter": true } : {})}
        value={text}
        error={bad ? t("matchers.bad") : error}
        onChange={(e) => {
          setText(e.currentTarget.value);
          setBad(false);
        }}
        onKeyDown={(e) => {
          if (e.key === "Enter") {
            e.preventDefault();
            add();
          } else if (e.key === "Backspace" && !text && value.length) onChange(value.slice(0, -1));
        }}
        onBlur={add}
      />
    </div>
  );
}
