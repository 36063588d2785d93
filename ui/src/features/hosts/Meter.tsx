import { StatusIcon } from "../../components/Status";
import { useT } from "../../i18n/i18n";
import { level, share, type Resource } from "./view";

interface Props {
  what: Resource;
  value: number | null | undefined;
  label: string;
  title?: string | undefined;
}

/** Meter shows a share as bar and number; too much has a sign of its own beside the colour. */
export function Meter({ what, value, label, title }: Props) {
  const { t } = useT();
  if (value === undefined || value === null || !Number.isFinite(value))
    return (
      <span className="meter none">
        <span className="sr">{label}: </span>–
      </span>
    );
  const l = level(what, value);
  return (
    <span className={`meter ${l}`} title={title}>
      <span className="sr">{label}: </span>
      <span className="meter-bar" aria-hidden="true">
        <i style={{ width: `${Math.min(100, Math.max(1.5, value * 100))}%` }} />
      </span>
      <span className="meter-text">
        {share(value)}
        {l !== "ok" && (
          <>
            <StatusIcon status={l === "bad" ? "down" : "degraded"} size={12} />
            <span className="sr">{t(l === "bad" ? "hosts.level.bad" : "hosts.level.warn")}</span>
          </>
        )}
      </span>
    </span>
  );
}
