import { memo } from "react";
import { Link } from "wouter";
import type { HostRow as Host } from "../../api/hosts";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { ago, dateTime, num, span, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { equal } from "../../lib/matchers";
import { HostPill } from "./HostPill";
import { hostMessage } from "./words";
import { Meter } from "./Meter";
import { Sparkline } from "./Sparkline";
import { iec, rate, share } from "./view";

interface Props {
  host: Host;
  index: number;
  offset: number;
  height: number;
  phone: boolean;
  current: boolean;
  picked: boolean;
  spark: number[] | undefined;
  onPick: ((id: string) => void) | undefined;
  onLabel: (name: string, value: string) => void;
}

export const HostRow = memo(function HostRow({
  host: h,
  index,
  offset,
  height,
  phone,
  current,
  picked,
  spark,
  onPick,
  onLabel,
}: Props) {
  const { t } = useT();
  const now = useNow();
  const u = h.usage ?? undefined;
  const ordinary = (h.status === "online" && !h.message) || h.status === "stopped";
  const known = spark?.filter((v) => Number.isFinite(v)) ?? [];
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      data-host={h.name}
      className={`tr row-${h.status}${current ? " current" : ""}${phone ? " cardrow" : ""}`}
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
            aria-label={t("checks.pick", { name: h.name })}
            checked={picked}
            onChange={() => onPick(h.id)}
          />
        )}
      </span>
      <span role="cell" className="c-status">
        <HostPill status={h.status} />
        {!phone && (
          <small className="muted" title={dateTime(h.since)}>
            {span((now - Date.parse(h.since)) / 1000).split(/ (?=\d)/)[0]}
          </small>
        )}
      </span>
      <span role="cell" className="c-name">
        <span className="name-line">
          <Link href={`/hosts/${encodeURIComponent(h.id)}`} className="name">
            {h.name}
          </Link>
          <Labels labels={h.labels} onPick={onLabel} />
        </span>
        <small className="muted ellipsis" title={ordinary ? undefined : hostMessage(h)}>
          {ordinary ? [h.region, h.os, h.groups?.join(", ")].filter(Boolean).join(" · ") : hostMessage(h)}
        </small>
      </span>
      <span role="cell" className="c-m">
        <Meter
          what="cpu"
          value={u?.cpu}
          label={t("hosts.cpu")}
          title={u?.cores ? t("hosts.cores", { n: u.cores }) : undefined}
        />
      </span>
      <span role="cell" className="c-m">
        <Meter
          what="memory"
          value={u?.memory}
          label={t("hosts.memory")}
          title={u?.memory_bytes ? iec(u.memory_bytes) : undefined}
        />
      </span>
      <span role="cell" className="c-m">
        <Meter what="disk" value={u?.disk} label={t("hosts.disk")} title={t("hosts.disk.help")} />
      </span>
      <span role="cell" className="c-load num">
        {u?.load1 === undefined ? "–" : num(u.load1)}
      </span>
      <span role="cell" className="c-net">
        {u?.rx_bytes_per_second === undefined ? (
          "–"
        ) : (
          <>
            <span>
              <span className="sr">{t("hosts.rx")}</span>
              <Icon name="down" size={11} /> {rate(u.rx_bytes_per_second)}
            </span>
            <span>
              <span className="sr">{t("hosts.tx")}</span>
              <Icon name="up" size={11} /> {rate(u.tx_bytes_per_second)}
            </span>
          </>
        )}
      </span>
      <span role="cell" className="c-spark">
        {known.length > 0 && spark && (
          <Sparkline
            values={spark}
            label={t("hosts.spark", {
              mean: share(known.reduce((a, b) => a + b, 0) / known.length),
              max: share(Math.max(...known)),
            })}
          />
        )}
      </span>
      <span role="cell" className="c-version muted">
        {h.version || "–"}
        {h.status !== "online" && h.last_seen && (
          <small title={dateTime(h.last_seen)}>{t("hosts.seen", { time: ago(h.last_seen, now) })}</small>
        )}
      </span>
      <span role="cell" className="c-alerts">
        {h.alerts ? (
          <Link href={`/alerts?m=${encodeURIComponent(equal("host", h.name))}`} className="badge">
            <span aria-hidden="true">{num(h.alerts)}</span>
            <span className="sr">{t("nav.badge.alerts", { n: h.alerts })}</span>
          </Link>
        ) : (
          !phone && <span className="muted">0</span>
        )}
      </span>
    </div>
  );
});
