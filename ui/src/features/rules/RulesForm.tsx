import { Button, Switch, TextInput } from "@mantine/core";
import { useEffect, useMemo, useState } from "react";
import { useLocation } from "wouter";
import { useCheckRules, useSaveRules, useTry } from "../../api/rules";
import type { Json, JsonObject } from "../../api/types";
import { Failure } from "../../components/faces";
import { LinesInput, MapInput } from "../../components/FieldInput";
import { fieldErrors } from "../../components/formErrors";
import { release, useUnsaved } from "../../components/guard";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { RangePicker } from "../../components/RangePicker";
import { toast } from "../../components/toast";
import { YamlField } from "../../components/YamlField";
import { useT } from "../../i18n/i18n";
import { errorFor, setPath } from "../../lib/fields";
import { placed, readRules, template, writeRules } from "../../lib/rulesDoc";
import { useCan } from "../../session";
import { TrialView } from "./TrialView";

interface Props {
  id?: string;
  revision?: number | undefined;
  start?: JsonObject;
  expr?: string;
}

const RANGES = ["24h", "7d", "30d"];
const FORM = ["name", "labels", "matchers", "disabled"];
/** How long nothing must be typed before the server is asked. */
const PAUSE = 700;

/** RulesForm edits one record: its head as a form, its groups as the file that Prometheus reads. */
export function RulesForm({ id, revision: newest, start: given, expr }: Props) {
  const { t } = useT();
  const [, go] = useLocation();
  const editor = useCan("editor");
  // What was there when the form was opened; see If-Match.
  const [{ start, revision }] = useState(() => {
    const { groups = null, ...head } = given ?? ({ name: "" } as JsonObject);
    return {
      revision: newest,
      start: { head, text: groups ? writeRules(groups) : template(expr || "up == 0") },
    };
  });
  const [head, setHead] = useState<JsonObject>(start.head);
  const [text, setText] = useState(start.text);
  const [range, setRange] = useState("7d");
  const save = useSaveRules();
  const attempt = useTry();
  const file = useMemo(() => readRules(text, t("rules.nogroups")), [text, t]);
  const spec: JsonObject = { ...head, groups: file.groups };
  const changed = text !== start.text || JSON.stringify(head) !== JSON.stringify(start.head);
  useUnsaved(changed && editor);

  // The server checks what was typed once there is a pause.
  const now = file.faults.length ? null : JSON.stringify(spec);
  const settled = useSettled(now, PAUSE);
  const name = String(head.name ?? "");
  const check = useCheckRules(
    name || "draft",
    editor && changed && settled !== null
      ? { ...(JSON.parse(settled) as JsonObject), name: name || "draft" }
      : null,
  );
  const checked = settled === now ? fieldErrors(check.error) : {};
  const saved = fieldErrors(save.error);
  const tried = fieldErrors(attempt.error);
  const all: Record<string, string> = {
    ...bare(checked),
    ...(Object.keys(checked).length ? {} : tried),
    ...saved,
  };
  const ofForm = (k: string) => FORM.some((f) => k === f || k.startsWith(`${f}.`) || k.startsWith(`${f}[`));
  const ofText = Object.fromEntries(Object.entries(all).filter(([k]) => !ofForm(k)));
  const faults = useMarks(file.faults.length ? file.faults : placed(ofText, file.line));
  const failed = [save.error, attempt.error].find((e) => e && !Object.keys(fieldErrors(e)).length);

  const submit = () => {
    if (!editor || file.faults.length) return;
    attempt.reset();
    save.mutate(
      { id, revision, spec },
      {
        onSuccess: (r) => {
          toast(t("editor.saved", { name: r.name }));
          release();
          go("/rules/sets");
        },
      },
    );
  };
  useKeys({ "mod+s": submit });
  const edit = (v: string) => {
    setText(v);
    save.reset();
    if (attempt.isError) attempt.reset();
  };
  const put = (field: string, v: Json | undefined) => setHead(setPath(head, field, v));
  return (
    <form
      className="stack"
      noValidate
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      {failed && <Failure compact error={failed} />}
      <fieldset disabled={!editor} className="card">
        <div className="form-grid">
          <TextInput
            label={t("checks.name")}
            required
            data-field="name"
            value={name}
            error={errorFor(all, "name")}
            onChange={(e) => put("name", e.currentTarget.value)}
          />
          <MapInput
            label={t("rules.labels")}
            description={t("rules.labels.help")}
            value={head.labels}
            error={errorFor(all, "labels")}
            onChange={(v) => put("labels", v)}
          />
          <LinesInput
            label={t("rules.matchers")}
            description={t("rules.matchers.help")}
            value={head.matchers}
            error={errorFor(all, "matchers")}
            onChange={(v) => put("matchers", v)}
          />
        </div>
        <Switch
          label={t("rules.evaluate")}
          checked={head.disabled !== true}
          onChange={(e) => put("disabled", e.currentTarget.checked ? undefined : true)}
        />
      </fieldset>
      <section className="card" aria-labelledby="rules-groups">
        <h2 id="rules-groups">
          {t("rules.groups.title")}
          <Checked
            state={
              !changed || !editor
                ? ""
                : faults.length
                  ? "bad"
                  : settled !== now || check.isFetching
                    ? "busy"
                    : check.isSuccess
                      ? "good"
                      : ""
            }
            n={faults.length}
          />
        </h2>
        <p className="muted">{t("rules.groups.help")}</p>
        <YamlField label={t("rules.groups.title")} value={text} onChange={edit} faults={faults} />
      </section>
      <div className="toolbar editor-bar">
        <span className="row">
          <Button
            variant="default"
            disabled={file.faults.length > 0}
            loading={attempt.isPending}
            leftSection={<Icon name="play" size={15} />}
            onClick={() => {
              save.reset();
              attempt.mutate({
                groups: file.groups,
                range,
                ...(head.matchers ? { matchers: head.matchers } : {}),
              });
            }}
          >
            {t("rules.try")}
          </Button>
          <RangePicker value={range} options={RANGES} onChange={setRange} />
        </span>
        {editor && (
          <span className="actions">
            <Button variant="default" onClick={() => go("/rules/sets")}>
              {t("common.cancel")}
            </Button>
            <Button type="submit" loading={save.isPending} disabled={file.faults.length > 0}>
              {t("common.save")}
            </Button>
          </span>
        )}
      </div>
      <div aria-live="polite" className="stack">
        {attempt.isPending ? (
          <p className="muted">{t("rules.trying")}</p>
        ) : attempt.data ? (
          attempt.data.map((x, i) => <TrialView key={i} name={x.name ?? String(i + 1)} trial={x} />)
        ) : (
          <p className="muted">{t("rules.try.help")}</p>
        )}
      </div>
    </form>
  );
}

function Checked({ state, n }: { state: "" | "busy" | "good" | "bad"; n: number }) {
  const { t } = useT();
  if (!state) return null;
  return (
    <small className={`checked checked-${state}`} role="status">
      {t(`yaml.${state}`, { n })}
    </small>
  );
}

/** bare takes off the names of fields what says in which document they are. */
const bare = (errors: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(errors).map(([k, v]) => [k.replace(/^documents\[0\]\.(spec\.?)?/, ""), v]),
  );

/** useMarks keeps the same list while it says the same, so that the editor does not draw it anew. */
function useMarks<T>(list: T[]): T[] {
  const text = JSON.stringify(list);
  return useMemo(() => JSON.parse(text) as T[], [text]);
}

/** useSettled is the value once it has stayed for a while. */
function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
