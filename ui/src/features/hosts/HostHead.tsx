import { Button } from "@mantine/core";
import { useState } from "react";
import { Link } from "wouter";
import { useNodes } from "../../api/cluster";
import { useLabelHost, type HostDetail, type HostEvidence } from "../../api/hosts";
import type { Json } from "../../api/types";
import { Dialog } from "../../components/Dialog";
import { Failure } from "../../components/faces";
import { MapInput } from "../../components/FieldInput";
import { fieldErrors } from "../../components/formErrors";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { StatusIcon } from "../../components/Status";
import { toast } from "../../components/toast";
import { ago, dateTime, num, span, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { errorFor } from "../../lib/fields";
import { useCan } from "../../session";
import { Meter } from "./Meter";
import { RunsChecks } from "./RunsChecks";
import { face, iec } from "./view";
import { hostMessage } from "./words";

/** HostHead says how a host is, since when and why, and what it is. */
export function HostHead({
  h,
  system,
}: {
  h: HostDetail;
  system: { name: string; kernel: string } | undefined;
}) {
  const { t } = useT();
  const now = useNow();
  const admin = useCan("admin");
  const nodes = useNodes().data ?? [];
  const [labels, setLabels] = useState(false);
  const server = nodes.find((n) => n.id === h.server);
  const u = h.usage ?? undefined;
  const boot = h.boot_time ? (now - Date.parse(h.boot_time)) / 1000 : NaN;
  return (
    <>
      <section className={`card state state-${face(h.status)} host-state`} aria-label={t("checks.status")}>
        <StatusIcon status={face(h.status)} size={40} />
        <div className="host-said">
          <p className="state-word" data-testid="host-state">
            <b>{t(`hosts.status.${h.status}`)}</b>{" "}
            <span title={dateTime(h.since)}>
              {t("check.for", { span: span((now - Date.parse(h.since)) / 1000) })}
            </span>
          </p>
          {hostMessage(h) && <p>{hostMessage(h)}</p>}
          {h.status !== "online" && h.last_seen && (
            <p className="muted" title={dateTime(h.last_seen)}>
              {t("hosts.lastdata", { time: ago(h.last_seen, now), at: dateTime(h.last_seen) })}
            </p>
          )}
          {!!h.evidence?.length && <Evidence list={h.evidence} now={now} />}
        </div>
        {u && h.status === "online" && (
          <div className="host-meters">
            <Gauge
              label={t("hosts.cpu")}
              what="cpu"
              value={u.cpu}
              note={u.cores ? t("hosts.cores", { n: u.cores }) : ""}
            />
            <Gauge
              label={t("hosts.memory")}
              what="memory"
              value={u.memory}
              note={u.memory_bytes ? iec(u.memory_bytes) : ""}
            />
            <Gauge label={t("hosts.disk")} what="disk" value={u.disk} note={t("hosts.disk.help")} />
            {!!u.swap && <Gauge label={t("hosts.swap")} what="swap" value={u.swap} note="" />}
          </div>
        )}
      </section>
      <section className="card" aria-label={t("hosts.facts")}>
        <dl className="host-facts">
          <Fact name={t("checks.region")}>{h.region}</Fact>
          <Fact name={t("hosts.system")}>
            {system?.name || h.os || "–"}{" "}
            <small className="muted">{[system?.kernel, h.arch].filter(Boolean).join(" · ")}</small>
          </Fact>
          <Fact name={t("hosts.uptime")}>
            {Number.isFinite(boot) && h.status === "online" ? (
              <span title={dateTime(h.boot_time ?? "")}>{span(boot)}</span>
            ) : (
              dateTime(h.boot_time ?? "", false)
            )}
          </Fact>
          {h.hostname && h.hostname !== h.name && <Fact name={t("hosts.hostname")}>{h.hostname}</Fact>}
          <Fact name={t("hosts.addresses")}>
            {h.addresses?.length ? h.addresses.slice(0, 4).join(", ") : "–"}
            {(h.addresses?.length ?? 0) > 4 && (
              <span title={h.addresses?.join("\n")}> +{num((h.addresses?.length ?? 0) - 4)}</span>
            )}
          </Fact>
          <Fact name={t("hosts.version")}>
            {h.version || "–"}
            {h.update && (
              <small className="muted">
                {" "}
                {t("hosts.update", { wanted: h.update.wanted, state: h.update.state })}
              </small>
            )}
          </Fact>
          <Fact name={t("hosts.talksto")}>
            {h.server ? (
              <>
                <Link href={`/servers/${encodeURIComponent(h.server)}`}>{server?.name ?? h.server}</Link>
                {h.connected && (
                  <small className="muted" title={dateTime(h.connected)}>
                    {" "}
                    {t("check.for", { span: span((now - Date.parse(h.connected)) / 1000) })}
                  </small>
                )}
              </>
            ) : (
              t("hosts.noserver")
            )}
          </Fact>
          <Fact name={t("hosts.groups")}>
            {h.groups?.length
              ? h.groups.map((g, i) => (
                  <span key={g}>
                    {i > 0 && ", "}
                    <Link href={`/hosts/groups?edit=${encodeURIComponent(g)}`}>{g}</Link>
                  </span>
                ))
              : "–"}
            {h.settings?.interval && h.settings.interval !== "0s" && (
              <small className="muted"> {t("hosts.every", { interval: h.settings.interval })}</small>
            )}
          </Fact>
          <Fact name={t("hosts.reach")}>{t(h.reachable ? "hosts.reach.yes" : "hosts.reach.no")}</Fact>
          <Fact name={t("hosts.checks.runs")}>
            <RunsChecks h={h} />
          </Fact>
          <Fact name={t("hosts.labels")}>
            <Labels labels={h.labels} />
            {admin && (
              <button type="button" className="link" onClick={() => setLabels(true)}>
                <Icon name="edit" size={13} /> {t("hosts.labels.edit")}
              </button>
            )}
          </Fact>
        </dl>
      </section>
      {labels && <LabelsDialog h={h} onClose={() => setLabels(false)} />}
    </>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Gauge(p: {
  label: string;
  what: "cpu" | "memory" | "disk" | "swap";
  value: number | undefined;
  note: string;
}) {
  return (
    <div className="gauge">
      <span aria-hidden="true">{p.label}</span>
      <Meter what={p.what} value={p.value} label={p.label} />
      {p.note && <small className="muted">{p.note}</small>}
    </div>
  );
}

/** Evidence tells who tried to reach a silent host, and what answered. */
function Evidence({ list, now }: { list: HostEvidence[]; now: number }) {
  const { t } = useT();
  return (
    <ul className="evidence">
      {list.map((e) => (
        <li key={`${e.prober} ${e.target}`}>
          <StatusIcon status={e.answers ? "up" : "down"} size={14} />
          <span>
            {t(e.answers ? "hosts.evidence.yes" : "hosts.evidence.no", {
              prober: e.prober,
              region: e.region,
              target: e.target,
            })}
            {e.message && <span className="muted"> {sentence(e.message)}</span>}{" "}
            <small className="muted nowrap" title={dateTime(e.at)}>
              {ago(e.at, now)}
            </small>
          </span>
        </li>
      ))}
    </ul>
  );
}

function LabelsDialog({ h, onClose }: { h: HostDetail; onClose: () => void }) {
  const { t } = useT();
  const save = useLabelHost();
  const [draft, setDraft] = useState<Json | undefined>(h.labels ?? undefined);
  const errors = fieldErrors(save.error);
  return (
    <Dialog title={t("hosts.labels.title", { name: h.name })} onClose={onClose}>
      <form
        className="stack"
        noValidate
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate(
            { id: h.id, labels: draft ?? {} },
            {
              onSuccess: () => {
                toast(t("settings.saved"));
                onClose();
              },
            },
          );
        }}
      >
        {save.isError && !errorFor(errors, "labels") && <Failure compact error={save.error} />}
        <p className="muted">{t("hosts.labels.help")}</p>
        <MapInput
          label={t("hosts.labels")}
          placeholder="team: web"
          value={draft}
          onChange={setDraft}
          error={errorFor(errors, "labels")}
        />
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" loading={save.isPending}>
            {t("common.save")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
