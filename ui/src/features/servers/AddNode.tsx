import { Button, Checkbox, NativeSelect, TextInput } from "@mantine/core";
import { copy } from "../../components/clipboard";
import { useState } from "react";
import { useCreateToken, type Node, type NodeRole, type Token } from "../../api/cluster";
import { useAgentInstall } from "../../api/hosts";
import { useResource } from "../../api/resources";
import { Dialog } from "../../components/Dialog";
import { Failure, Skeleton } from "../../components/faces";
import { fieldErrors } from "../../components/formErrors";
import { Icon } from "../../components/icons";
import { ago, dateTime, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { joinAddress, joinCommand } from "./view";

const ROLES: NodeRole[] = ["server", "witness", "agent"];
const TTLS = ["10m", "1h", "24h", "7d", "30d"];

/** AddNode makes a token and shows the whole command for the other machine. */
export default function AddNode({
  nodes,
  start = "server",
  onClose,
}: {
  nodes: Node[];
  start?: NodeRole;
  onClose: () => void;
}) {
  const { t } = useT();
  const create = useCreateToken();
  const regions = useResource("regions").data ?? [];
  const [role, setRole] = useState<NodeRole>(start);
  const [name, setName] = useState("");
  const [bind, setBind] = useState("");
  const [region, setRegion] = useState("");
  const [ttl, setTtl] = useState("1h");
  const [uses, setUses] = useState("");
  const [offered, setOffered] = useState(false);
  const [tried, setTried] = useState(false);
  const checks = role === "agent" && offered;
  const missing = checks && !region.trim();
  const errors = fieldErrors(create.error);
  const known = [...new Set([...regions.map((r) => r.name), ...nodes.map((n) => n.region)])].filter(Boolean);
  const spec = () => ({
    role,
    ...(region ? { region } : {}),
    ...(checks ? { checks } : {}),
    ttl,
    ...(uses.trim() ? { uses: Number(uses) } : {}),
  });
  if (create.data)
    return (
      <Dialog title={t("servers.add.ready")} onClose={onClose} wide>
        {role === "agent" ? (
          <Install
            token={create.data.token ?? ""}
            fallback={joinCommand(
              { role, token: create.data.token ?? "", region, checks },
              joinAddress(nodes, location.hostname),
            )}
            made={create.data}
            onClose={onClose}
          />
        ) : (
          <Command
            made={create.data}
            command={joinCommand(
              { role, token: create.data.token ?? "", region, name, bind },
              joinAddress(nodes, location.hostname),
            )}
            onClose={onClose}
          />
        )}
      </Dialog>
    );
  return (
    <Dialog title={t(start === "agent" ? "hosts.add" : "servers.add.title")} onClose={onClose} wide>
      <form
        className="stack"
        noValidate
        onSubmit={(e) => {
          e.preventDefault();
          setTried(true);
          if (!missing) create.mutate(spec());
        }}
      >
        {create.isError && !Object.keys(errors).length && <Failure compact error={create.error} />}
        <fieldset>
          <legend>{t("servers.add.what")}</legend>
          <div className="segments">
            {ROLES.map((r) => (
              <button key={r} type="button" aria-pressed={r === role} onClick={() => setRole(r)}>
                {t(`servers.role.${r}`)}
              </button>
            ))}
          </div>
          <p className="muted">{t(`servers.add.${role}`)}</p>
        </fieldset>
        <div className="form-grid">
          {role !== "agent" && (
            <>
              <TextInput
                label={t("servers.add.name")}
                description={t("servers.add.name.help")}
                placeholder="n2"
                data-field="name"
                value={name}
                onChange={(e) => setName(e.currentTarget.value.trim())}
              />
              <TextInput
                label={t("servers.add.bind")}
                description={t("servers.add.bind.help")}
                placeholder="10.0.0.2"
                data-field="bind"
                value={bind}
                onChange={(e) => setBind(e.currentTarget.value.trim())}
              />
            </>
          )}
          <TextInput
            label={t("checks.region")}
            description={checks ? undefined : t("servers.add.region.help")}
            required={checks}
            list="sv-regions"
            error={missing && tried ? t("servers.add.checks.region") : errors.region}
            data-field="region"
            value={region}
            onChange={(e) => setRegion(e.currentTarget.value)}
          />
          <datalist id="sv-regions">
            {known.map((r) => (
              <option key={r} value={r} />
            ))}
          </datalist>
          <NativeSelect
            label={t("servers.add.ttl")}
            error={errors.ttl}
            data-field="ttl"
            value={ttl}
            onChange={(e) => setTtl(e.currentTarget.value)}
            data={TTLS.map((v) => ({ value: v, label: t(`servers.ttl.${v as "1h"}`) }))}
          />
          <TextInput
            label={t("servers.add.uses")}
            inputMode="numeric"
            placeholder={role === "agent" ? "100" : "1"}
            error={errors.uses}
            data-field="uses"
            value={uses}
            onChange={(e) => setUses(e.currentTarget.value)}
          />
        </div>
        {role === "agent" && (
          <Checkbox
            label={t("servers.add.checks")}
            description={t("servers.add.checks.help")}
            error={errors.checks}
            data-field="checks"
            checked={offered}
            onChange={(e) => setOffered(e.currentTarget.checked)}
          />
        )}
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" loading={create.isPending}>
            {t("servers.add.make")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

const WAYS = ["linux", "docker", "kubernetes", "windows"] as const;

/** Install shows how to install an agent with the token, by kind of machine. */
function Install({
  token,
  fallback,
  made,
  onClose,
}: {
  token: string;
  fallback: string;
  made: Token;
  onClose: () => void;
}) {
  const { t } = useT();
  const query = useAgentInstall(token, made.region, !!made.checks);
  const [way, setWay] = useState<(typeof WAYS)[number]>("linux");
  if (query.isPending) return <Skeleton rows={2} height={60} />;
  const ways = WAYS.filter((w) => query.data?.[w]);
  const command = query.data?.[way];
  if (!command) return <Command made={made} command={fallback} onClose={onClose} />;
  return (
    <>
      <div className="segments ways" role="group" aria-label={t("servers.add.where")}>
        {ways.map((w) => (
          <button key={w} type="button" aria-pressed={w === way} onClick={() => setWay(w)}>
            {t(`servers.way.${w}`)}
          </button>
        ))}
      </div>
      <Command made={made} command={command} help={t(`servers.way.${way}.help`)} onClose={onClose} />
    </>
  );
}

function Command({
  made,
  command,
  help,
  onClose,
}: {
  made: Token;
  command: string;
  help?: string;
  onClose: () => void;
}) {
  const { t } = useT();
  const now = useNow();
  return (
    <>
      <p>{help ?? t(made.role === "agent" ? "servers.add.run.agent" : "servers.add.run")}</p>
      <pre className="secret wrap" data-testid="join">
        {command}
      </pre>
      <p className="muted">
        {t("servers.add.once", { n: made.uses })}{" "}
        <span title={dateTime(made.expires)}>
          {t("servers.add.until", { time: dateTime(made.expires, false), left: ago(made.expires, now) })}
        </span>
      </p>
      {/NO AGENT FOR/.test(command) && <p className="stale">{t("servers.add.noagent")}</p>}
      {!help && /NAME|ADDRESS|REGION/.test(command) && <p className="muted">{t("servers.add.fill")}</p>}
      <div className="actions">
        <Button
          variant="default"
          leftSection={<Icon name="copy" size={15} />}
          data-autofocus
          onClick={() => void copy(command)}
        >
          {t("servers.add.copy")}
        </Button>
        <Button onClick={onClose}>{t("servers.add.done")}</Button>
      </div>
    </>
  );
}
