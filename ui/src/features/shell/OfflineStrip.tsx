import { useEffect, useState } from "react";
import { useLive } from "../../api/stream";
import { Icon } from "../../components/icons";
import { timeOnly } from "../../i18n/format";
import { useT } from "../../i18n/i18n";

/** OfflineStrip says that the server does not answer, and of when the page is. */
export function OfflineStrip() {
  const { t } = useT();
  const gone = useLive() === "stale";
  const [since, setSince] = useState(0);
  useEffect(() => {
    // eslint-disable-next-line react-hooks/set-state-in-effect
    setSince(gone ? Date.now() : 0);
  }, [gone]);
  if (!gone || !since) return null;
  return (
    <div className="strip split bad" role="alert" data-testid="offline">
      <Icon name="split" size={18} />
      <div>
        <b>{t("live.gone")}</b> {t("live.gone.text", { time: timeOnly(since) })}
      </div>
    </div>
  );
}
