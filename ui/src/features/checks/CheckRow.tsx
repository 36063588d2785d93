import { memo } from "react";
import { Link } from "wouter";
import type { Check } from "../../api/types";
import { HeartbeatBar } from "../../components/HeartbeatBar";
import { Labels } from "../../components/Labels";
import { StatusPill } from "../../components/Status";
import { ago, dateTime, percent, seconds, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";

interface Props {
  check: Check;
  index: number;
  offset: number;
  height: number;
  phone: boolean;
  current: boolean;
  picked: boolean;
  onPick: ((id: string) => void) | undefined;
  onLabel: (name: string, value: string) => void;
}

/** responseTime is the mean of the regions' last answers in seconds. */
export function responseTime(c: Check): number {
  const all = Object.values(c.state?.regions ?? {}).map((r) => r.duration_seconds);
  return all.length ? all.reduce((a, b) => a + b, 0) / all.length : NaN;
}

export const CheckRow = memo(function CheckRow({
  check: c,
  index,
  offset,
  height,
  phone,
  current,
  picked,
  onPick,
  onLabel,
}: Props) {
  const { t } = useT();
  const now = useNow();
  const status = c.state?.status ?? "pending";
  const bars = c.bars ?? [];
  const when = (i: number) => {
    const step = 86_400_000 / bars.length;
    return t("bars.span", {
      from: dateTime(now - (bars.length - i) * step, false).slice(5),
      to: dateTime(now - (bars.length - i - 1) * step, false).slice(11),
    });
  };
  const message = sentence(c.state?.message ?? "");
  const ordinary = status === "up" || status === "paused" || status === "pending";
  return (
    <div
      role="row"
      aria-rowindex={index + 1}
      className={`tr row-${status}${current ? " current" : ""}${phone ? " cardrow" : ""}`}
      style={{
        position: "absolute",
        top: 0,
        left: 0,
        right: 0,
        height,
        transform: `translateY(${offset}px)`,
      }}
    >
      <span role="cell" className="c-pick">
        {onPick && (
          <input
            type="checkbox"
            aria-label={t("checks.pick", { name: c.name })}
            checked={picked}
            onChange={() => onPick(c.id)}
          />
        )}
      </span>
      <span role="cell" className="c-status">
        <StatusPill status={status} />
      </span>
      <span role="cell" className="c-name">
        <span className="name-line">
          <Link href={`/checks/${c.id}`} className="name">
            {c.name}
          </Link>
          <span className="type">{c.type}</span>
          <Labels labels={c.labels} onPick={onLabel} />
        </span>
        <small className="muted ellipsis">{ordinary ? (c.target ?? message) : message || c.target}</small>
      </span>
      <span role="cell" className="c-bars">
        <HeartbeatBar bars={bars} uptime={c.uptime?.["24h"]} when={when} />
      </span>
      <span role="cell" className="c-uptime num">
        {percent(c.uptime?.["24h"])}
      </span>
      <span role="cell" className="c-time num">
        {seconds(responseTime(c))}
      </span>
      <span role="cell" className="c-since num" title={c.state && dateTime(c.state.since)}>
        {c.state ? ago(c.state.since, now) : "–"}
      </span>
    </div>
  );
});
