import { useState } from "react";
import type { Region } from "../../api/types";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { field } from "./field";
import { RecordDialog } from "./RecordDialog";
import { RecordList } from "./RecordList";

export function RegionsTab() {
  const { t } = useT();
  const [edit, setEdit] = useState<{ record?: Region } | null>(null);
  return (
    <>
      <RecordList
        name="regions"
        icon="globe"
        intro="regions.intro"
        empty="regions.none"
        add="regions.new"
        onAdd={() => setEdit({})}
        onEdit={(record) => setEdit({ record })}
        row={(r) => (
          <>
            <b>{r.name}</b>
            {r.description && <span>{r.description}</span>}
            <small className="muted">{t("regions.weighs", { weight: num(r.weight ?? 1) })}</small>
          </>
        )}
      />
      {edit && (
        <RecordDialog
          resource="regions"
          title={edit.record ? edit.record.name : t("regions.new")}
          {...(edit.record ? { record: edit.record } : {})}
          start={{ name: "" }}
          onClose={() => setEdit(null)}
          fields={[
            field("name", "string", t("checks.name"), {
              required: true,
              default: "eu",
              help: t("regions.name.help"),
            }),
            field("description", "string", t("editor.description"), { default: "Frankfurt" }),
            field("weight", "float", t("regions.weight"), { default: "1", help: t("regions.weight.help") }),
          ]}
        />
      )}
    </>
  );
}
