import { Button } from "@mantine/core";
import { useState, type ReactNode } from "react";
import { useSave, type ResourceName } from "../../api/resources";
import type { Field, JsonObject } from "../../api/types";
import { Dialog } from "../../components/Dialog";
import { Failure } from "../../components/faces";
import { FieldInput } from "../../components/FieldInput";
import { fieldErrors } from "../../components/formErrors";
import { toast } from "../../components/toast";
import { useT } from "../../i18n/i18n";
import { errorFor, getPath, orphans, setPath, specOf } from "../../lib/fields";

interface Props {
  resource: ResourceName;
  title: string;
  record?: { id: string; revision?: number };
  start?: JsonObject;
  fields: Field[];
  onClose: () => void;
  onSaved?: (answer: object) => void;
  /** More of the form below the fields, and of the actions beside saving. */
  extra?: (draft: JsonObject, set: (d: JsonObject) => void, errors: Record<string, string>) => ReactNode;
  actions?: (draft: JsonObject) => ReactNode;
  /** Prefixes of the error fields that extra shows. */
  shown?: string[];
}

/** RecordDialog creates or changes one small record by a list of fields. */
export function RecordDialog({
  resource,
  title,
  record,
  start,
  fields,
  onClose,
  onSaved,
  extra,
  actions,
  shown = [],
}: Props) {
  const { t } = useT();
  const [draft, setDraft] = useState<JsonObject>(() => (record ? specOf(record) : (start ?? {})));
  const save = useSave(resource);
  const errors = fieldErrors(save.error);
  const rest = orphans(errors, [...fields.map((f) => f.name), ...shown]);
  return (
    <Dialog title={title} onClose={onClose} wide>
      <form
        className="stack"
        noValidate
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate(
            { id: record?.id, revision: record?.revision, spec: draft },
            {
              onSuccess: (answer) => {
                toast(t("settings.saved"));
                onClose();
                onSaved?.(answer);
              },
            },
          );
        }}
      >
        {save.isError && (!Object.keys(errors).length || rest.length > 0) && (
          <Failure
            compact
            error={rest.length ? new Error(rest.map(([k, m]) => `${k}: ${m}`).join("; ")) : save.error}
          />
        )}
        <div className="form-grid">
          {fields.map((f) => (
            <FieldInput
              key={f.name}
              field={f}
              value={getPath(draft, f.name)}
              error={errorFor(errors, f.name)}
              onChange={(v) => setDraft(setPath(draft, f.name, v))}
            />
          ))}
        </div>
        {extra?.(draft, setDraft, errors)}
        <div className="actions">
          {actions?.(draft)}
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
