import { NativeSelect, Textarea } from "@mantine/core";
import { useState } from "react";
import { useAllHosts, type HostGroup } from "../../api/hosts";
import { useResource } from "../../api/resources";
import type { JsonObject } from "../../api/types";
import { Icon } from "../../components/icons";
import { Labels } from "../../components/Labels";
import { Page } from "../../components/Page";
import { useUrl } from "../../components/useParams";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { errorFor } from "../../lib/fields";
import { toYAML } from "../../lib/yaml";
import "../../styles/hosts.css";
import { field } from "../settings/field";
import { RecordDialog } from "../settings/RecordDialog";
import { RecordList } from "../settings/RecordList";
import { COLLECTORS, servicesOf, servicesText } from "./groups";
import { covers } from "./view";

/** GroupsPage edits what the agents of some hosts do. */
export default function GroupsPage() {
  const { t } = useT();
  const { get, set } = useUrl();
  const [made, setMade] = useState(false);
  const groups = useResource("hostgroups").data ?? [];
  const hosts = useAllHosts().data;
  const record = groups.find((g) => g.name === get("edit"));
  const close = () => {
    setMade(false);
    if (get("edit")) set({ edit: "" });
  };
  const some = (g: Partial<HostGroup>) => (hosts?.items ?? []).filter((h) => covers(g, h));
  return (
    <Page title={t("hosts.groups.title")} back={{ href: "/hosts", label: t("nav.hosts") }}>
      <RecordList
        name="hostgroups"
        icon="host"
        intro="hosts.groups.intro"
        empty="hosts.groups.none"
        add="hosts.groups.new"
        onAdd={() => setMade(true)}
        onEdit={(g) => set({ edit: g.name })}
        row={(g) => (
          <>
            <b>{g.name}</b>
            <span>{describe(g) || t("hosts.groups.all")}</span>
            {g.interval && <small className="muted">{t("hosts.every", { interval: g.interval })}</small>}
            <small className="muted">
              {t("hosts.groups.covers", { n: some(g).length, total: num(hosts?.total ?? 0) })}
            </small>
            <Labels labels={g.labels} />
          </>
        )}
      />
      {(made || record) && (
        <RecordDialog
          key={record?.id ?? ""}
          resource="hostgroups"
          title={record ? record.name : t("hosts.groups.new")}
          {...(record ? { record } : {})}
          start={{ name: "" }}
          onClose={close}
          shown={["collectors", "services"]}
          fields={[
            field("name", "string", t("checks.name"), { required: true, default: "databases" }),
            field("interval", "duration", t("hosts.g.interval"), {
              default: "15s",
              help: t("hosts.g.interval.help"),
            }),
            field("hosts", "list", t("hosts.g.hosts"), { default: "db-*", help: t("hosts.g.hosts.help") }),
            field("regions", "list", t("hosts.g.regions"), { default: "eu", help: t("hosts.g.lines") }),
            field("matchers", "map", t("hosts.g.matchers"), {
              default: "team: data",
              help: t("hosts.g.matchers.help"),
            }),
            field("labels", "map", t("hosts.g.labels"), {
              default: "tier: backend",
              help: t("hosts.g.labels.help"),
            }),
            field("processes", "list", t("hosts.g.processes"), {
              default: "nginx",
              help: t("hosts.g.processes.help"),
            }),
            field("mesh.peers", "list", t("hosts.g.mesh"), { default: "*", help: t("hosts.g.mesh.help") }),
            field("priority", "int", t("hosts.g.priority"), {
              default: "0",
              help: t("hosts.g.priority.help"),
            }),
          ]}
          extra={(draft, change, errors) => (
            <Extra
              draft={draft}
              change={change}
              errors={errors}
              covered={some(draft as Partial<HostGroup>)}
              total={hosts?.total ?? 0}
            />
          )}
        />
      )}
    </Page>
  );
}

const describe = (g: HostGroup) =>
  [
    ...(g.hosts ?? []),
    ...(g.regions ?? []),
    ...Object.entries(g.matchers ?? {}).map(([k, v]) => `${k}=${v}`),
  ].join(", ");

interface ExtraProps {
  draft: JsonObject;
  change: (d: JsonObject) => void;
  errors: Record<string, string>;
  covered: { id: string; name: string }[];
  total: number;
}

/** Extra is the part of the form that is no plain field: services, collectors, who is covered, the text. */
function Extra({ draft, change, errors, covered, total }: ExtraProps) {
  const { t } = useT();
  const [services, setServices] = useState(() => servicesText(draft.services));
  const set = (draft.collectors ?? {}) as Record<string, boolean>;
  const names = [...new Set([...COLLECTORS, ...Object.keys(set)])].sort();
  const put = (key: string, value: JsonObject[string] | undefined) => {
    const { [key]: _, ...rest } = draft;
    void _;
    change(value === undefined ? rest : { ...rest, [key]: value });
  };
  const turn = (name: string, v: string) => {
    const next = Object.fromEntries(Object.entries(set).filter(([k]) => k !== name));
    if (v) next[name] = v === "on";
    put("collectors", Object.keys(next).length ? next : undefined);
  };
  return (
    <>
      <Textarea
        label={t("hosts.g.services")}
        description={t("hosts.g.services.help")}
        placeholder={"unit nginx.service\nport 443\nprocess shop java.*shop"}
        error={errorFor(errors, "services")}
        rows={3}
        resize="vertical"
        data-field="services"
        value={services}
        onChange={(e) => {
          setServices(e.currentTarget.value);
          put("services", servicesOf(e.currentTarget.value));
        }}
      />
      <details className="advanced" {...(errorFor(errors, "collectors") ? { open: true } : {})}>
        <summary>{t("hosts.g.collectors", { n: Object.keys(set).length })}</summary>
        {errorFor(errors, "collectors") && <p className="bad">{errorFor(errors, "collectors")}</p>}
        <div className="collectors">
          {names.map((n) => (
            <NativeSelect
              key={n}
              size="xs"
              label={n}
              value={set[n] === undefined ? "" : set[n] ? "on" : "off"}
              onChange={(e) => turn(n, e.currentTarget.value)}
              data={[
                { value: "", label: t("hosts.g.default") },
                { value: "on", label: t("hosts.g.on") },
                { value: "off", label: t("hosts.g.off") },
              ]}
            />
          ))}
        </div>
      </details>
      <section className="covered" aria-live="polite">
        <p className="row">
          <Icon name="host" size={16} />
          <b>{t("hosts.groups.covers", { n: covered.length, total: num(total) })}</b>
        </p>
        <p className="muted">
          {covered
            .slice(0, 30)
            .map((h) => h.name)
            .join(", ")}
          {covered.length > 30 && " …"}
        </p>
      </section>
      <details className="advanced">
        <summary>YAML</summary>
        <pre>{toYAML({ kind: "hostgroup", name: draft.name ?? "", spec: withoutName(draft) })}</pre>
      </details>
    </>
  );
}

const withoutName = (d: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(d).filter(([k]) => k !== "name"));
