import { useState } from "react";
import type { Maintenance } from "../../api/types";
import { Labels } from "../../components/Labels";
import { dateTime } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { field } from "./field";
import { RecordDialog } from "./RecordDialog";
import { RecordList } from "./RecordList";

export function MaintenanceTab() {
  const { t } = useT();
  const [edit, setEdit] = useState<{ record?: Maintenance } | null>(null);
  const when = (m: Maintenance) =>
    m.cron
      ? t("maint.cron", { cron: m.cron, duration: m.duration ?? "", zone: m.timezone || "UTC" })
      : t("silences.span", {
          from: m.start ? dateTime(m.start, false) : "–",
          to: m.end ? dateTime(m.end, false) : "–",
        });
  return (
    <>
      <RecordList
        name="maintenances"
        icon="calendar"
        intro="maint.intro"
        empty="maint.none"
        add="maint.new"
        onAdd={() => setEdit({})}
        onEdit={(record) => setEdit({ record })}
        row={(m) => (
          <>
            <b>{m.name}</b> {m.paused && <span className="type">{t("status.paused")}</span>}
            <small className="muted">{when(m)}</small>
            <small className="muted">{m.all ? t("maint.allchecks") : m.checks?.join(", ")}</small>
            <Labels labels={m.matchers} />
          </>
        )}
      />
      {edit && (
        <RecordDialog
          resource="maintenances"
          title={edit.record ? edit.record.name : t("maint.new")}
          {...(edit.record ? { record: edit.record } : {})}
          start={{ name: "", timezone: Intl.DateTimeFormat().resolvedOptions().timeZone }}
          onClose={() => setEdit(null)}
          fields={[
            field("name", "string", t("checks.name"), { required: true }),
            field("description", "string", t("editor.description")),
            field("checks", "list", t("maint.checks"), { help: t("maint.checks.help") }),
            field("matchers", "map", t("maint.matchers"), { help: t("maint.matchers.help") }),
            field("start", "string", t("maint.start"), { default: "2026-12-01T02:00:00Z" }),
            field("end", "string", t("maint.end"), { default: "2026-12-01T04:00:00Z" }),
            field("cron", "string", t("maint.cronexpr"), {
              default: "0 2 * * 0",
              help: t("maint.cronexpr.help"),
            }),
            field("duration", "duration", t("maint.duration"), { default: "2h" }),
            field("timezone", "string", t("maint.zone"), { default: "UTC" }),
            field("all", "bool", t("maint.all")),
            field("paused", "bool", t("maint.paused")),
          ]}
        />
      )}
    </>
  );
}
