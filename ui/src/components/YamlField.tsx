import { lazy, Suspense, useState } from "react";
import { sentence, useT } from "../i18n/i18n";
import type { Mark } from "../lib/yamlDoc";
import { Skeleton } from "./faces";

const Editor = lazy(() => import("./YamlEditor"));

interface Props {
  value: string;
  onChange: (v: string) => void;
  label: string;
  faults: Mark[];
}

/** YamlField is the editor with a list of what is wrong below it; each entry leads to its line. */
export function YamlField({ value, onChange, label, faults }: Props) {
  const { t } = useT();
  const [jump, setJump] = useState<{ line: number }>();
  return (
    <div className="yaml-field">
      <Suspense fallback={<Skeleton rows={1} height={280} />}>
        <Editor value={value} onChange={onChange} label={label} faults={faults} jump={jump} />
      </Suspense>
      <ul className="faults" aria-live="polite">
        {faults.slice(0, 50).map((f, i) => (
          <li key={i}>
            {f.line > 0 && (
              <button type="button" className="link nowrap" onClick={() => setJump({ line: f.line })}>
                {t("yaml.line", { line: f.line })}
              </button>
            )}
            <span>{sentence(f.message)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
