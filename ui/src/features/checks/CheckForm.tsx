import { Button, Checkbox } from "@mantine/core";
import { useRef, useState } from "react";
import { useLocation } from "wouter";
import { useSaveCheck, useTestCheck } from "../../api/checks";
import type { Field, JsonObject, KindType } from "../../api/types";
import { Failure } from "../../components/faces";
import { FieldForm } from "../../components/FieldForm";
import { FieldInput } from "../../components/FieldInput";
import { fieldErrors } from "../../components/formErrors";
import { release, useUnsaved } from "../../components/guard";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { toast } from "../../components/toast";
import { useT } from "../../i18n/i18n";
import { errorFor, orphans, setPath } from "../../lib/fields";
import { advancedFields, mainFields } from "./commonFields";
import { RawView } from "./RawView";
import { Results } from "./Results";

interface Props {
  id: string | undefined;
  revision: number | undefined;
  start: JsonObject;
  kind: KindType;
}

/** CheckForm edits one check. The form and the raw view show the same object. */
export function CheckForm({ id, revision: newest, start: given, kind }: Props) {
  const { t } = useT();
  const [, go] = useLocation();
  // What was there when the form was opened: whoever changes the check meanwhile
  // must not change the form, and saving over it is refused by its revision.
  const [{ start, revision }] = useState({ start: given, revision: newest });
  const [draft, setDraft] = useState(start);
  const [raw, setRaw] = useState(false);
  const save = useSaveCheck();
  const test = useTestCheck();
  const form = useRef<HTMLFormElement>(null);
  useUnsaved(JSON.stringify(draft) !== JSON.stringify(start));
  // The newest answer of the server counts, be it to a test or to saving.
  const failure = save.error ?? test.error;
  const errors = fieldErrors(failure);
  const main = mainFields(kind, t);
  const advanced = advancedFields(t);
  const block = draft[kind.name];
  const rest = orphans(
    errors,
    [...main, ...advanced]
      .map((f) => f.name)
      .concat(
        "paused",
        (kind.fields ?? []).map((f) => `${kind.name}.${f.name}`),
      ),
  );

  const submit = () => {
    test.reset();
    save.mutate(
      { ...(id ? { id } : {}), ...(revision ? { revision } : {}), spec: draft },
      {
        onSuccess: (c) => {
          toast(t("editor.saved", { name: c.name }));
          release();
          go(`/checks/${c.id}`);
        },
        onError: () =>
          setTimeout(() => form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus()),
      },
    );
  };
  useKeys({ "mod+s": submit });
  const input = (f: Field) => (
    <FieldInput
      key={f.name}
      field={f}
      value={draft[f.name]}
      error={errorFor(errors, f.name)}
      onChange={(v) => setDraft(setPath(draft, f.name, v))}
    />
  );

  return (
    <form
      ref={form}
      className="editor"
      noValidate
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      <div className="editor-main">
        <div className="segments" role="group" aria-label={t("editor.view")}>
          <button type="button" aria-pressed={!raw} onClick={() => setRaw(false)}>
            {t("editor.form")}
          </button>
          <button type="button" aria-pressed={raw} onClick={() => setRaw(true)}>
            JSON / YAML
          </button>
        </div>
        {failure && (Object.keys(errors).length === 0 || rest.length > 0) && (
          <Failure
            compact
            error={rest.length ? new Error(rest.map(([k, m]) => `${k}: ${m}`).join("; ")) : failure}
          />
        )}
        {raw ? (
          <RawView value={draft} onChange={setDraft} />
        ) : (
          <>
            <section className="card">
              <h2>{t("editor.main")}</h2>
              <div className="form-grid">{main.map(input)}</div>
              <Checkbox
                label={t("editor.paused")}
                checked={draft.paused === true}
                onChange={(e) => setDraft(setPath(draft, "paused", e.currentTarget.checked || undefined))}
              />
            </section>
            {!!kind.fields?.length && (
              <section className="card">
                <h2>{t("editor.block", { kind: kind.name })}</h2>
                <FieldForm
                  fields={kind.fields}
                  block={kind.name}
                  value={
                    typeof block === "object" && block !== null && !Array.isArray(block) ? block : undefined
                  }
                  onChange={(v) => setDraft(setPath(draft, kind.name, Object.keys(v).length ? v : undefined))}
                  errors={errors}
                />
              </section>
            )}
            <section className="card">
              <h2>{t("editor.decision")}</h2>
              <div className="form-grid">{advanced.map(input)}</div>
            </section>
          </>
        )}
      </div>
      <aside className="editor-side">
        <section className="card sticky">
          <div className="actions stretch">
            <Button
              variant="default"
              loading={test.isPending}
              leftSection={<Icon name="play" size={15} />}
              onClick={() => {
                save.reset();
                test.mutate(draft);
              }}
            >
              {t("editor.test")}
            </Button>
            <Button type="submit" loading={save.isPending}>
              {t("common.save")}
            </Button>
          </div>
          <div aria-live="polite">
            {test.data ? (
              <Results results={test.data.results ?? []} />
            ) : (
              <p className="muted">{t("editor.test.hint")}</p>
            )}
          </div>
        </section>
      </aside>
    </form>
  );
}
