import { Button, NativeSelect, Switch, TextInput } from "@mantine/core";
import { useState } from "react";
import {
  useSaveSelf,
  useSelfRules,
  useSelfSettings,
  type RuleChange,
  type SelfRule,
  type SelfSettings,
} from "../../api/cluster";
import { useResource } from "../../api/resources";
import { Failure, Faces } from "../../components/faces";
import { fieldErrors } from "../../components/formErrors";
import { useUnsaved } from "../../components/guard";
import { toast } from "../../components/toast";
import { pick, useT } from "../../i18n/i18n";
import { errorFor, orphans } from "../../lib/fields";
import { useCan } from "../../session";
import { changeRule, tidy } from "./selfSettings";

/** SelfTab says how the servers watch themselves and one another. */
export function SelfTab() {
  const rules = useSelfRules();
  const settings = useSelfSettings();
  return (
    <Faces query={settings} rows={6}>
      <Faces query={rules} rows={6}>
        {rules.data && settings.data !== undefined && (
          <Form
            key={settings.data?.revision ?? 0}
            rules={rules.data}
            start={settings.data?.value ?? {}}
            revision={settings.data?.revision}
          />
        )}
      </Faces>
    </Faces>
  );
}

interface FormProps {
  rules: SelfRule[];
  start: SelfSettings;
  revision: number | undefined;
}

function Form({ rules, start, revision }: FormProps) {
  const { t } = useT();
  const admin = useCan("admin");
  const receivers = useResource("receivers").data ?? [];
  const save = useSaveSelf();
  const [draft, setDraft] = useState(start);
  const changed = JSON.stringify(tidy(draft)) !== JSON.stringify(tidy(start));
  useUnsaved(changed);
  // The server names fields inside of the setting's value.
  const errors = Object.fromEntries(
    Object.entries(fieldErrors(save.error)).map(([k, v]) => [k.replace(/^value\./, ""), v]),
  );
  const rest = orphans(errors, ["dead_man", "canary", ...rules.map((r) => `rules.${r.name}`)]);
  const outside = (v: NonNullable<SelfSettings["dead_man"]>) =>
    setDraft({ ...draft, dead_man: { ...draft.dead_man, ...v } });
  const canary = (v: NonNullable<SelfSettings["canary"]>) =>
    setDraft({ ...draft, canary: { ...draft.canary, ...v } });
  const names = receivers.map((r) => r.name);
  const chosen = draft.canary?.receiver ?? "";
  return (
    <form
      className="stack"
      noValidate
      onSubmit={(e) => {
        e.preventDefault();
        save.mutate({ revision, value: tidy(draft) }, { onSuccess: () => toast(t("settings.saved")) });
      }}
    >
      {save.isError && (!Object.keys(errors).length || rest.length > 0) && (
        <Failure
          compact
          error={rest.length ? new Error(rest.map(([k, m]) => `${k}: ${m}`).join("; ")) : save.error}
        />
      )}
      <fieldset disabled={!admin} className="stack">
        <section className="card" aria-labelledby="self-out">
          <h2 id="self-out">{t("self.deadman")}</h2>
          <p className="muted">{t("self.deadman.intro")}</p>
          <div className="form-grid">
            <TextInput
              label={t("self.deadman.url")}
              description={t("self.deadman.help")}
              placeholder="https://watch.example/ping/…"
              data-field="dead_man.url"
              error={errorFor(errors, "dead_man.url")}
              value={draft.dead_man?.url ?? ""}
              onChange={(e) => outside({ url: e.currentTarget.value.trim() })}
            />
            <TextInput
              label={t("editor.interval")}
              placeholder="1m"
              data-field="dead_man.interval"
              error={errorFor(errors, "dead_man.interval")}
              value={draft.dead_man?.interval ?? ""}
              onChange={(e) => outside({ interval: e.currentTarget.value.trim() })}
            />
          </div>
        </section>
        <section className="card" aria-labelledby="self-canary">
          <h2 id="self-canary">{t("self.canary")}</h2>
          <p className="muted">{t("self.canary.intro")}</p>
          <div className="form-grid">
            <NativeSelect
              label={t("self.canary.receiver")}
              data-field="canary.receiver"
              error={errorFor(errors, "canary.receiver")}
              value={chosen}
              onChange={(e) => canary({ receiver: e.currentTarget.value })}
              data={[
                { value: "", label: t("self.canary.none") },
                ...[...new Set([...names, ...(chosen ? [chosen] : [])])].map((v) => ({ value: v, label: v })),
              ]}
            />
            <TextInput
              label={t("editor.interval")}
              placeholder="10m"
              data-field="canary.interval"
              error={errorFor(errors, "canary.interval")}
              value={draft.canary?.interval ?? ""}
              onChange={(e) => canary({ interval: e.currentTarget.value.trim() })}
            />
          </div>
        </section>
        {rules.length > 0 && (
          <section className="card" aria-labelledby="self-rules">
            <h2 id="self-rules">{t("self.rules")}</h2>
            <p className="muted">{t("self.rules.intro")}</p>
            <ul className="lines rules">
              {rules.map((r) => (
                <Rule
                  key={r.name}
                  rule={r}
                  change={draft.rules?.[r.name] ?? {}}
                  errors={errors}
                  onChange={(c) => setDraft(changeRule(draft, r.name, c))}
                />
              ))}
            </ul>
          </section>
        )}
      </fieldset>
      {admin && (
        <div className="actions">
          <Button variant="default" disabled={!changed} onClick={() => setDraft(start)}>
            {t("self.reset")}
          </Button>
          <Button type="submit" loading={save.isPending} disabled={!changed}>
            {t("common.save")}
          </Button>
        </div>
      )}
    </form>
  );
}

interface RuleProps {
  rule: SelfRule;
  change: RuleChange;
  errors: Record<string, string>;
  onChange: (c: RuleChange) => void;
}

function Rule({ rule: r, change, errors, onChange }: RuleProps) {
  const { t } = useT();
  const at = `rules.${r.name}`;
  const title = pick(r.title, r.name);
  const unit = r.unit === "count" || !r.unit ? "" : ` (${r.unit})`;
  return (
    <li data-rule={r.name}>
      <div className="rule-main">
        <Switch
          label={title}
          description={r.name}
          checked={!change.disabled}
          onChange={(e) => onChange({ ...change, disabled: !e.currentTarget.checked })}
        />
        <small className="muted">{pick(r.runbook)}</small>
      </div>
      <div className="rule-fields">
        {r.unit && (
          <TextInput
            size="xs"
            label={t("self.threshold") + unit}
            aria-label={`${title}: ${t("self.threshold")}`}
            inputMode="decimal"
            placeholder={String(r.threshold ?? "")}
            error={errorFor(errors, `${at}.threshold`)}
            value={String(change.threshold ?? "")}
            onChange={(e) => onChange({ ...change, threshold: e.currentTarget.value.trim() })}
          />
        )}
        <TextInput
          size="xs"
          label={t("self.for")}
          aria-label={`${title}: ${t("self.for")}`}
          placeholder={r.for}
          error={errorFor(errors, `${at}.for`)}
          value={change.for ?? ""}
          onChange={(e) => onChange({ ...change, for: e.currentTarget.value.trim() })}
        />
        <NativeSelect
          size="xs"
          label={t("editor.severity")}
          aria-label={`${title}: ${t("editor.severity")}`}
          error={errorFor(errors, `${at}.severity`)}
          value={change.severity ?? r.severity}
          onChange={(e) => onChange({ ...change, severity: e.currentTarget.value })}
          data={(["critical", "warning", "info"] as const).map((s) => ({
            value: s,
            label: t(`severity.${s}`),
          }))}
        />
      </div>
    </li>
  );
}
