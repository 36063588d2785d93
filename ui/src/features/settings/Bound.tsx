import { Icon } from "../../components/icons";
import { useT } from "../../i18n/i18n";

/** Bound shows the labels that a user or key is bound to. */
export function Bound({ matchers }: { matchers: string[] | null | undefined }) {
  const { t } = useT();
  if (!matchers?.length) return null;
  return (
    <span className="labels" title={t("bound.title")}>
      <Icon name="lock" size={14} />
      <span className="sr">{t("bound.title")}</span>
      {matchers.map((m) => (
        <code key={m} className="label">
          {m}
        </code>
      ))}
    </span>
  );
}
