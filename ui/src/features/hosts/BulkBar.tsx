import { Button } from "@mantine/core";
import { useState } from "react";
import { useBulkHosts, type BulkAnswer, type BulkChange } from "../../api/hosts";
import type { Json } from "../../api/types";
import { confirm } from "../../components/confirm";
import { Dialog } from "../../components/Dialog";
import { Failure } from "../../components/faces";
import { LinesInput, MapInput } from "../../components/FieldInput";
import { errorFor } from "../../lib/fields";
import { fieldErrors } from "../../components/formErrors";
import { toast, toastError } from "../../components/toast";
import { sentence, useT } from "../../i18n/i18n";

interface Props {
  picked: ReadonlySet<string>;
  /** Labels that the picked hosts have, to be chosen for removal. */
  known: string[];
  name: (id: string) => string;
  onClear: () => void;
}

/** BulkBar changes many hosts at once. */
export function BulkBar({ picked, known, name, onClear }: Props) {
  const { t } = useT();
  const bulk = useBulkHosts();
  const [labels, setLabels] = useState(false);
  const report = (a: BulkAnswer, done: "hosts.bulk.labelled" | "hosts.bulk.removed") => {
    const [first] = a.failed ?? [];
    if (first)
      toast(
        t("hosts.bulk.failed", {
          n: a.failed?.length ?? 0,
          name: name(first.id),
          reason: sentence(first.message),
        }),
        true,
      );
    if (a.changed || !first) toast(t(done, { n: a.changed }));
  };
  const drop = async () => {
    const n = picked.size;
    const yes = await confirm({
      title: t("hosts.remove.many", { n }),
      text: t("hosts.remove.text"),
      action: t("servers.remove"),
    });
    if (!yes) return;
    bulk.mutate(
      { ids: [...picked], remove: true },
      {
        onSuccess: (a) => {
          report(a, "hosts.bulk.removed");
          onClear();
        },
        onError: toastError,
      },
    );
  };
  return (
    <div className="bulk" role="toolbar" aria-label={t("hosts.bulk")}>
      <b>{t("checks.picked", { n: picked.size })}</b>
      <Button size="xs" variant="default" onClick={() => setLabels(true)}>
        {t("hosts.bulk.labels")}
      </Button>
      <Button size="xs" color="red" loading={bulk.isPending} onClick={() => void drop()}>
        {t("servers.remove")}
      </Button>
      <Button size="xs" variant="subtle" onClick={onClear}>
        {t("checks.unpick")}
      </Button>
      {labels && (
        <LabelsDialog
          n={picked.size}
          known={known}
          onClose={() => setLabels(false)}
          onSave={(change, done) =>
            bulk.mutate(
              { ids: [...picked], ...change },
              {
                onSuccess: (a) => {
                  report(a, "hosts.bulk.labelled");
                  done();
                },
              },
            )
          }
          pending={bulk.isPending}
          error={bulk.error}
        />
      )}
    </div>
  );
}

function LabelsDialog({
  n,
  known,
  onClose,
  onSave,
  pending,
  error,
}: {
  n: number;
  known: string[];
  onClose: () => void;
  onSave: (c: Omit<BulkChange, "ids">, done: () => void) => void;
  pending: boolean;
  error: unknown;
}) {
  const { t } = useT();
  const [set, setSet] = useState<Json | undefined>();
  const [remove, setRemove] = useState<Json | undefined>();
  const errors = fieldErrors(error);
  return (
    <Dialog title={t("hosts.bulk.labels.title", { n })} onClose={onClose}>
      <form
        className="stack"
        noValidate
        onSubmit={(e) => {
          e.preventDefault();
          onSave(
            {
              ...(set ? { set_labels: set } : {}),
              ...(remove ? { remove_labels: remove as string[] } : {}),
            },
            onClose,
          );
        }}
      >
        {error !== null && !Object.keys(errors).length && <Failure compact error={error} />}
        <MapInput
          label={t("hosts.bulk.set")}
          placeholder="team: web"
          value={set}
          onChange={setSet}
          error={errorFor(errors, "set_labels")}
        />
        <LinesInput
          label={t("hosts.bulk.unset")}
          description={known.length ? t("hosts.bulk.has", { names: known.join(", ") }) : undefined}
          value={remove}
          onChange={setRemove}
          error={errorFor(errors, "remove_labels")}
        />
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" loading={pending} disabled={!set && !remove}>
            {t("common.save")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
