import { useT, type Key } from "../i18n/i18n";

/** RangePicker is a row of spans of time; the choice lives in the address. */
export function RangePicker({
  value,
  options,
  onChange,
}: {
  value: string;
  options: string[];
  onChange: (v: string) => void;
}) {
  const { t } = useT();
  return (
    <div className="segments" role="group" aria-label={t("range.label")}>
      {options.map((o) => (
        <button key={o} type="button" aria-pressed={o === value} onClick={() => onChange(o)}>
          {t(`range.${o}` as Key)}
        </button>
      ))}
    </div>
  );
}
