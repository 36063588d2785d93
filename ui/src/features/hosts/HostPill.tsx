import type { HostStatus } from "../../api/hosts";
import { StatusIcon } from "../../components/Status";
import { useT } from "../../i18n/i18n";
import { face } from "./view";

/** HostPill names the state of a host. */
export function HostPill({ status }: { status: HostStatus }) {
  const { t } = useT();
  return (
    <span className={`pill pill-${face(status)}`}>
      <StatusIcon status={face(status)} size={14} />
      {t(`hosts.status.${status}`)}
    </span>
  );
}
