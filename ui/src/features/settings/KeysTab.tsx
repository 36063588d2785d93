import { Button } from "@mantine/core";
import { useState } from "react";
import { Dialog } from "../../components/Dialog";
import { Icon } from "../../components/icons";
import { toast } from "../../components/toast";
import { dateTime } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { field } from "./field";
import { RecordDialog } from "./RecordDialog";
import { RecordList } from "./RecordList";

export function KeysTab() {
  const { t } = useT();
  const [add, setAdd] = useState(false);
  const [fresh, setFresh] = useState("");
  return (
    <>
      <RecordList
        name="keys"
        icon="key"
        intro="keys.intro"
        empty="keys.none"
        add="keys.new"
        onAdd={() => setAdd(true)}
        row={(k) => (
          <>
            <b>{k.name}</b> <span className="type">{t(`role.${k.role}`)}</span>{" "}
            {k.prefix && <code>{k.prefix}…</code>}
            <small className="muted">
              {k.expires ? t("keys.until", { time: dateTime(k.expires, false) }) : t("keys.forever")}
            </small>
          </>
        )}
      />
      {add && (
        <RecordDialog
          resource="keys"
          title={t("keys.new")}
          start={{ name: "", role: "viewer" }}
          onClose={() => setAdd(false)}
          onSaved={(k) => setFresh("key" in k && typeof k.key === "string" ? k.key : "")}
          fields={[
            field("name", "string", t("checks.name"), { required: true }),
            field("role", "enum", t("users.role"), { enum: ["viewer", "editor", "admin"] }),
            field("expires", "string", t("keys.expires"), {
              help: t("keys.expires.help"),
              default: "2027-01-01T00:00:00Z",
            }),
          ]}
        />
      )}
      {fresh && (
        <Dialog title={t("keys.fresh")} onClose={() => setFresh("")}>
          <p>{t("keys.once")}</p>
          <pre className="secret" data-testid="key">
            {fresh}
          </pre>
          <div className="actions">
            <Button
              variant="default"
              leftSection={<Icon name="copy" size={15} />}
              onClick={() => void navigator.clipboard.writeText(fresh).then(() => toast(t("common.copied")))}
            >
              {t("common.copy")}
            </Button>
            <Button onClick={() => setFresh("")}>{t("keys.stored")}</Button>
          </div>
        </Dialog>
      )}
    </>
  );
}
