import { useLive } from "../../api/stream";
import { useT } from "../../i18n/i18n";

/** LiveDot says how fresh the page is. */
export function LiveDot() {
  const { t } = useT();
  const state = useLive();
  return (
    <span className={`live live-${state}`} role="status" title={t(`live.${state}.help`)}>
      <i aria-hidden="true" />
      {t(`live.${state}`)}
    </span>
  );
}
