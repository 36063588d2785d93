import { useState } from "react";
import type { UserRecord } from "../../api/types";
import { useT } from "../../i18n/i18n";
import { Bound } from "./Bound";
import { field } from "./field";
import { RecordDialog } from "./RecordDialog";
import { RecordList } from "./RecordList";

export function UsersTab() {
  const { t } = useT();
  const [edit, setEdit] = useState<{ record?: UserRecord } | null>(null);
  return (
    <>
      <RecordList
        name="users"
        icon="user"
        intro="users.intro"
        empty="users.none"
        add="users.new"
        onAdd={() => setEdit({})}
        onEdit={(record) => setEdit({ record })}
        row={(u) => (
          <>
            <b>{u.name}</b> {u.display_name} <span className="type">{t(`role.${u.role}`)}</span>
            <Bound matchers={u.matchers} />
            {u.disabled && <span className="type">{t("users.disabled")}</span>}
          </>
        )}
      />
      {edit && (
        <RecordDialog
          resource="users"
          title={edit.record ? edit.record.name : t("users.new")}
          {...(edit.record ? { record: edit.record } : {})}
          start={{ name: "", role: "viewer" }}
          onClose={() => setEdit(null)}
          fields={[
            field("name", "string", t("users.name"), { required: true }),
            field("display_name", "string", t("profile.display")),
            field("role", "enum", t("users.role"), { enum: ["viewer", "editor", "admin"] }),
            field("password", "secret", t("profile.password"), {
              help: t(edit.record ? "users.password.keep" : "users.password.help"),
            }),
            field("matchers", "list", t("bound.title"), { help: t("bound.help") }),
            field("disabled", "bool", t("users.disable")),
          ]}
        />
      )}
    </>
  );
}
