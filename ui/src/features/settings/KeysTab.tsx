import { useState } from "react";
import { OnceDialog } from "../../components/OnceDialog";
import { dateTime } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { Bound } from "./Bound";
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
            <Bound matchers={k.matchers} />
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
            field("matchers", "list", t("bound.title"), { help: t("bound.help") }),
          ]}
        />
      )}
      {fresh && (
        <OnceDialog
          title={t("keys.fresh")}
          text={t("keys.once")}
          secret={fresh}
          testId="key"
          onClose={() => setFresh("")}
        />
      )}
    </>
  );
}
