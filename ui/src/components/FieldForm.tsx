import type { Field, JsonObject } from "../api/types";
import { useT } from "../i18n/i18n";
import { errorFor, formFields, getPath, setPath } from "../lib/fields";
import { FieldInput } from "./FieldInput";

interface Props {
  fields: Field[];
  /** The block's name, the prefix of its errors. */
  block: string;
  value: JsonObject | undefined;
  onChange: (v: JsonObject) => void;
  errors: Record<string, string>;
}

/** FieldForm is the form for a block that the server describes: the main fields, then the advanced ones. */
export function FieldForm({ fields, block, value, onChange, errors }: Props) {
  const { t } = useT();
  const all = formFields(fields);
  const advanced = all.filter((f) => f.advanced);
  const input = (f: Field) => (
    <FieldInput
      key={f.name}
      field={f}
      value={getPath(value, f.name)}
      onChange={(v) => onChange(setPath(value, f.name, v))}
      error={errorFor(errors, `${block}.${f.name}`)}
    />
  );
  const faulty = advanced.some((f) => errorFor(errors, `${block}.${f.name}`));
  return (
    <>
      <div className="form-grid">{all.filter((f) => !f.advanced).map(input)}</div>
      {advanced.length > 0 && (
        <details className="advanced" {...(faulty ? { open: true } : {})}>
          <summary>{t("form.advanced", { n: advanced.length })}</summary>
          <div className="form-grid">{advanced.map(input)}</div>
        </details>
      )}
    </>
  );
}
