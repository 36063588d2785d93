import { useT } from "../i18n/i18n";

interface Props {
  labels: Record<string, string> | null | undefined;
  skip?: string[];
  onPick?: (name: string, value: string) => void;
}

/** Labels shows name=value chips; with onPick they are buttons that filter. */
export function Labels({ labels, skip = [], onPick }: Props) {
  const { t } = useT();
  const entries = Object.entries(labels ?? {}).filter(([k]) => !skip.includes(k));
  if (!entries.length) return null;
  return (
    <span className="labels">
      {entries.map(([k, v]) =>
        onPick ? (
          <button
            key={k}
            type="button"
            className="label"
            title={t("labels.filter")}
            onClick={(e) => {
              e.preventDefault();
              e.stopPropagation();
              onPick(k, v);
            }}
          >
            {k}=<b>{v}</b>
          </button>
        ) : (
          <span key={k} className="label">
            {k}=<b>{v}</b>
          </span>
        ),
      )}
    </span>
  );
}
