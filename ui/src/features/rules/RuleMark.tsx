import { StatusIcon } from "../../components/Status";
import type { Status } from "../../api/types";
import { useT } from "../../i18n/i18n";
import type { ruleState } from "./view";

type State = ReturnType<typeof ruleState>;

const LOOKS: Record<State, { status: Status; pill: string }> = {
  broken: { status: "unknown", pill: "unknown" },
  firing: { status: "down", pill: "down" },
  pending: { status: "degraded", pill: "degraded" },
  inactive: { status: "up", pill: "up" },
  recording: { status: "up", pill: "idle" },
  unknown: { status: "pending", pill: "idle" },
};

/** RuleMark shows the state of a rule or a group by shape, colour and word. */
export function RuleMark({ state, short = false }: { state: State; short?: boolean }) {
  const { t } = useT();
  const look = LOOKS[state];
  if (short)
    return (
      <span className="rule-mark" title={t(`rules.state.${state}`)}>
        <StatusIcon status={look.status} size={15} />
        <span className="sr">{t(`rules.state.${state}`)}</span>
      </span>
    );
  return (
    <span className={`pill pill-${look.pill}`}>
      <StatusIcon status={look.status} size={14} />
      {t(`rules.state.${state}`)}
    </span>
  );
}
