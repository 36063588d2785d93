import { Button, Checkbox, NativeSelect, TextInput } from "@mantine/core";
import { useMemo, useState } from "react";
import { useLocation } from "wouter";
import { useSaveScrape } from "../../api/scrapes";
import type { Json, JsonObject } from "../../api/types";
import { Failure } from "../../components/faces";
import { LinesInput, MapInput } from "../../components/FieldInput";
import { fieldErrors } from "../../components/formErrors";
import { release, useUnsaved } from "../../components/guard";
import { useKeys } from "../../components/keys";
import { toast } from "../../components/toast";
import { YamlField } from "../../components/YamlField";
import { useT } from "../../i18n/i18n";
import { errorFor, getPath, setPath } from "../../lib/fields";
import { placed } from "../../lib/rulesDoc";
import { readYaml, typedYaml } from "../../lib/yamlDoc";
import { useCan } from "../../session";
import { configYaml, fromSimple, simpleOf, toSimple, unwrap, type Simple } from "./config";

interface Props {
  id?: string;
  revision?: number | undefined;
  start?: JsonObject;
}

/** JobForm edits one scrape job: static targets as a form, everything else as Prometheus' own YAML. */
export function JobForm({ id, revision: newest, start: given }: Props) {
  const { t } = useT();
  const [, go] = useLocation();
  const editor = useCan("editor");
  const [{ start, revision }] = useState(() => {
    const { config, ...head } = given ?? ({ name: "" } as JsonObject);
    return { revision: newest, start: { head, text: configYaml(config), simple: toSimple(config) } };
  });
  const [head, setHead] = useState(start.head);
  const [text, setText] = useState(start.text);
  const [simple, setSimple] = useState<Simple | null>(start.simple);
  const save = useSaveScrape();
  const doc = useMemo(() => readYaml(text), [text]);
  const changed =
    JSON.stringify([head, simple, text]) !== JSON.stringify([start.head, start.simple, start.text]);
  useUnsaved(changed && editor);
  const errors = fieldErrors(save.error);
  const inConfig = Object.fromEntries(Object.entries(errors).filter(([k]) => k.startsWith("config")));
  const marks = JSON.stringify(doc.faults.length ? doc.faults : placed(inConfig, doc.line, "config"));
  const faults = useMemo(() => JSON.parse(marks) as { line: number; message: string }[], [marks]);
  const canForm = simple !== null || simpleOf(text) !== null;
  const put = (field: string, v: Json | undefined) => setHead(setPath(head, field, v));
  // The object stays while its fields are empty: it says who scrapes.
  const near = typeof head.agents === "object" && head.agents !== null;
  const agents = (field: string, v: Json | undefined) =>
    setHead({ ...head, agents: setPath(head.agents as JsonObject, field, v) });
  const change = (c: Partial<Simple>) => simple && setSimple({ ...simple, ...c });

  const submit = () => {
    if (!editor || (!simple && doc.faults.length)) return;
    // Secrets that are not shown are kept by their place in the object. What refers to itself is left to the server to read.
    const entry = unwrap(text);
    save.mutate(
      { id, revision, spec: { ...head, config: simple ? fromSimple(simple) : (typedYaml(entry) ?? entry) } },
      {
        onSuccess: (j) => {
          toast(t("editor.saved", { name: j.name }));
          release();
          go("/scrapes/jobs");
        },
      },
    );
  };
  useKeys({ "mod+s": submit });
  const field = (k: string) => errorFor(errors, `config.${k}`);
  const rest = simple
    ? Object.entries(inConfig).filter(
        ([k]) => !/^config\.(static_configs|scheme|metrics_path|scrape_interval|scrape_timeout)\b/.test(k),
      )
    : [];
  return (
    <form
      className="stack"
      noValidate
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      {save.isError && (!Object.keys(errors).length || rest.length > 0) && (
        <Failure
          compact
          error={rest.length ? new Error(rest.map(([k, m]) => `${k}: ${m}`).join("; ")) : save.error}
        />
      )}
      <fieldset disabled={!editor} className="stack">
        <section className="card">
          <h2>{t("scrapes.what")}</h2>
          <div className="form-grid">
            <TextInput
              label={t("checks.name")}
              description={t("scrapes.name.help")}
              required
              data-field="name"
              value={String(head.name ?? "")}
              error={errorFor(errors, "name")}
              onChange={(e) => put("name", e.currentTarget.value)}
            />
            <TextInput
              label={t("editor.description")}
              description={t("scrapes.description.help")}
              value={String(head.description ?? "")}
              error={errorFor(errors, "description")}
              onChange={(e) => put("description", e.currentTarget.value || undefined)}
            />
          </div>
          <div className="segments" role="group" aria-label={t("editor.view")}>
            <button
              type="button"
              aria-pressed={simple !== null}
              disabled={!canForm}
              title={canForm ? undefined : t("scrapes.form.no")}
              onClick={() => setSimple(simple ?? simpleOf(text))}
            >
              {t("scrapes.form")}
            </button>
            <button
              type="button"
              aria-pressed={simple === null}
              onClick={() => {
                if (!simple) return;
                setText(configYaml(fromSimple(simple)));
                setSimple(null);
              }}
            >
              YAML
            </button>
          </div>
          {simple ? (
            <div className="form-grid spaced">
              <LinesInput
                label={t("scrapes.static")}
                description={t("scrapes.static.help")}
                value={simple.targets}
                error={field("static_configs")}
                onChange={(v) => change({ targets: Array.isArray(v) ? v.map(String) : [] })}
              />
              <MapInput
                label={t("scrapes.static.labels")}
                value={simple.labels}
                onChange={(v) =>
                  change({ labels: typeof v === "object" && v !== null ? (v as Record<string, string>) : {} })
                }
              />
              <NativeSelect
                label={t("scrapes.scheme")}
                value={simple.scheme}
                error={field("scheme")}
                data={[
                  { value: "", label: t("field.default", { value: "http" }) },
                  { value: "http", label: "http" },
                  { value: "https", label: "https" },
                ]}
                onChange={(e) => change({ scheme: e.currentTarget.value })}
              />
              <TextInput
                label={t("scrapes.path")}
                placeholder="/metrics"
                value={simple.metrics_path}
                error={field("metrics_path")}
                onChange={(e) => change({ metrics_path: e.currentTarget.value })}
              />
              <TextInput
                label={t("editor.interval")}
                placeholder="1m"
                value={simple.scrape_interval}
                error={field("scrape_interval")}
                onChange={(e) => change({ scrape_interval: e.currentTarget.value })}
              />
              <TextInput
                label={t("editor.timeout")}
                placeholder="10s"
                value={simple.scrape_timeout}
                error={field("scrape_timeout")}
                onChange={(e) => change({ scrape_timeout: e.currentTarget.value })}
              />
            </div>
          ) : (
            <>
              <p className="muted spaced">{t("scrapes.yaml.help")}</p>
              <YamlField
                label={t("scrapes.config")}
                value={text}
                onChange={(v) => {
                  setText(v);
                  save.reset();
                }}
                faults={faults}
              />
            </>
          )}
        </section>
        <section className="card">
          <h2>{t("scrapes.where")}</h2>
          <div className="segments" role="group" aria-label={t("scrapes.by")}>
            <button type="button" aria-pressed={!near} onClick={() => put("agents", undefined)}>
              {t("nav.servers")}
            </button>
            <button
              type="button"
              aria-pressed={near}
              onClick={() =>
                !near &&
                setHead({
                  ...setPath(
                    setPath(setPath(head, "per_region", undefined), "regions", undefined),
                    "workers",
                    undefined,
                  ),
                  agents: {},
                })
              }
            >
              {t("servers.agents")}
            </button>
          </div>
          {near && <p className="muted spaced">{t("scrapes.agents.help")}</p>}
          <div className="form-grid spaced">
            {near ? (
              <>
                <LinesInput
                  label={t("hosts.g.hosts")}
                  description={t("scrapes.agents.hosts.help")}
                  value={getPath(head, "agents.hosts")}
                  error={errors["agents"] ?? errorFor(errors, "agents.hosts")}
                  onChange={(v) => agents("hosts", v)}
                />
                <LinesInput
                  label={t("editor.regions")}
                  description={t("hosts.g.lines")}
                  value={getPath(head, "agents.regions")}
                  error={errorFor(errors, "agents.regions")}
                  onChange={(v) => agents("regions", v)}
                />
                <MapInput
                  label={t("hosts.g.matchers")}
                  description={t("hosts.g.matchers.help")}
                  value={getPath(head, "agents.labels")}
                  error={errorFor(errors, "agents.labels")}
                  onChange={(v) => agents("labels", v)}
                />
              </>
            ) : (
              <>
                <LinesInput
                  label={t("editor.regions")}
                  description={t("scrapes.regions.help")}
                  value={head.regions}
                  error={errorFor(errors, "regions")}
                  onChange={(v) => put("regions", v)}
                />
                <MapInput
                  label={t("scrapes.workers")}
                  description={t("scrapes.workers.help")}
                  value={head.workers}
                  error={errorFor(errors, "workers")}
                  onChange={(v) => put("workers", v)}
                />
              </>
            )}
            <MapInput
              label={t("rules.labels")}
              description={t("scrapes.labels.help")}
              value={head.labels}
              error={errorFor(errors, "labels")}
              onChange={(v) => put("labels", v)}
            />
          </div>
          <div className="stack-s">
            {!near && (
              <Checkbox
                label={t("scrapes.perregion")}
                checked={head.per_region === true}
                onChange={(e) => put("per_region", e.currentTarget.checked || undefined)}
              />
            )}
            <Checkbox
              label={t("editor.paused")}
              checked={head.paused === true}
              onChange={(e) => put("paused", e.currentTarget.checked || undefined)}
            />
          </div>
        </section>
      </fieldset>
      {editor && (
        <div className="actions editor-bar">
          <Button variant="default" onClick={() => go("/scrapes/jobs")}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" loading={save.isPending} disabled={!simple && doc.faults.length > 0}>
            {t("common.save")}
          </Button>
        </div>
      )}
    </form>
  );
}
