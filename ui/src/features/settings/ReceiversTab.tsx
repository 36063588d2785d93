import { Button } from "@mantine/core";
import { useState } from "react";
import { useReceiverTypes, useTestReceiver } from "../../api/resources";
import type { JsonObject, Receiver, TestResult } from "../../api/types";
import { Dialog } from "../../components/Dialog";
import { Faces, Failure } from "../../components/faces";
import { FieldForm } from "../../components/FieldForm";
import { Icon } from "../../components/icons";
import { JsonInput } from "../../components/FieldInput";
import { StatusIcon } from "../../components/Status";
import { toast, toastError } from "../../components/toast";
import { seconds } from "../../i18n/format";
import { pick, sentence, useT } from "../../i18n/i18n";
import { setPath } from "../../lib/fields";
import { field } from "./field";
import { RecordDialog } from "./RecordDialog";
import { RecordList } from "./RecordList";

export function ReceiversTab() {
  const { t } = useT();
  const [edit, setEdit] = useState<{ record?: Receiver; type?: string } | null>(null);
  const test = useTestReceiver();
  const tell = (r: TestResult) =>
    toast(t(r.ok ? "receivers.sent" : "receivers.notsent", { message: sentence(r.message) }), !r.ok);
  return (
    <>
      <RecordList
        name="receivers"
        icon="send"
        intro="receivers.intro"
        empty="receivers.none"
        add="receivers.new"
        onAdd={() => setEdit({})}
        onEdit={(record) => setEdit({ record, type: record.type })}
        row={(r) => (
          <>
            <b>{r.name}</b> <span className="type">{r.type}</span>
            {r.description && <small className="muted">{r.description}</small>}
          </>
        )}
        more={(r) => (
          <Button
            size="xs"
            variant="default"
            loading={test.isPending && test.variables.id === r.id}
            onClick={() => test.mutate({ id: r.id }, { onSuccess: tell, onError: toastError })}
          >
            {t("receivers.test")}
          </Button>
        )}
      />
      {edit && !edit.type && (
        <TypeDialog onClose={() => setEdit(null)} onPick={(type) => setEdit({ type })} />
      )}
      {edit?.type && (
        <ReceiverDialog
          type={edit.type}
          {...(edit.record ? { record: edit.record } : {})}
          onClose={() => setEdit(null)}
        />
      )}
    </>
  );
}

function TypeDialog({ onClose, onPick }: { onClose: () => void; onPick: (type: string) => void }) {
  const { t } = useT();
  const types = useReceiverTypes();
  return (
    <Dialog title={t("receivers.pick")} onClose={onClose} wide>
      <Faces query={types} rows={4}>
        <ul className="gallery">
          {types.data?.map((k) => (
            <li key={k.name}>
              <button type="button" onClick={() => onPick(k.name)} data-kind={k.name}>
                <Icon name="send" />
                <b>{pick(k.label, k.name)}</b>
              </button>
            </li>
          ))}
        </ul>
      </Faces>
    </Dialog>
  );
}

function ReceiverDialog({ type, record, onClose }: { type: string; record?: Receiver; onClose: () => void }) {
  const { t } = useT();
  const types = useReceiverTypes();
  const kind = types.data?.find((k) => k.name === type);
  return (
    <RecordDialog
      resource="receivers"
      title={record ? record.name : t("receivers.newof", { type: pick(kind?.label, type) })}
      {...(record ? { record } : {})}
      start={{ name: "", type }}
      fields={[
        field("name", "string", t("checks.name"), { required: true }),
        field("description", "string", t("editor.description")),
      ]}
      onClose={onClose}
      shown={(kind?.fields ?? []).map((f) => `${type}.${f.name}`)}
      extra={(draft, set, errors) => {
        const block = draft[type];
        const change = (v: JsonObject) => set(setPath(draft, type, v));
        // A receiver that was imported may have several blocks of its type: those are edited as JSON.
        if (Array.isArray(block) || !kind?.fields?.length)
          return (
            <JsonInput label={type} value={block} rows={10} onChange={(v) => set(setPath(draft, type, v))} />
          );
        return (
          <FieldForm
            fields={kind.fields}
            block={type}
            value={typeof block === "object" && block !== null ? block : undefined}
            onChange={change}
            errors={errors}
          />
        );
      }}
      actions={(draft) => <TestButton draft={draft} />}
    />
  );
}

function TestButton({ draft }: { draft: JsonObject }) {
  const { t } = useT();
  const test = useTestReceiver();
  const r = test.data;
  return (
    <div className="test-receiver" aria-live="polite">
      <Button
        variant="default"
        loading={test.isPending}
        leftSection={<Icon name="send" size={15} />}
        onClick={() => test.mutate({ spec: draft })}
      >
        {t("receivers.test")}
      </Button>
      {r && (
        <small className="row">
          <StatusIcon status={r.ok ? "up" : "down"} />
          {r.ok
            ? t("receivers.sent", { message: sentence(r.message) })
            : t("receivers.notsent", { message: sentence(r.message) })}
          {r.duration_seconds !== undefined && ` (${seconds(r.duration_seconds)})`}
        </small>
      )}
      {test.isError && <Failure compact error={test.error} />}
    </div>
  );
}
