import { Link, useParams } from "wouter";
import { useRuleSet } from "../../api/rules";
import { Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { useUrl } from "../../components/useParams";
import { useT } from "../../i18n/i18n";
import { specOf } from "../../lib/fields";
import { RulesForm } from "./RulesForm";
import "../../styles/platform.css";

/** EditorPage: a new set of rules, about an expression (?expr=) if there is one, or a stored one. */
export default function EditorPage() {
  const { t } = useT();
  const { id } = useParams<{ id?: string }>();
  const { get } = useUrl();
  const source = useRuleSet(id);
  const r = source.data;
  return (
    <Page
      title={id ? t("rules.edit", { name: r?.name ?? id }) : t("rules.new")}
      back={{ href: "/rules/sets", label: t("nav.rules") }}
      actions={
        r && (
          <Link href={`/rules/${encodeURIComponent(r.id)}/versions`} className="row">
            <Icon name="events" size={16} />
            {t("rules.versions")}
          </Link>
        )
      }
    >
      {id ? (
        <Faces query={source} rows={4} height={120}>
          {r && <RulesForm key={r.id} id={r.id} revision={r.revision} start={specOf(r)} />}
        </Faces>
      ) : (
        <RulesForm expr={get("expr")} />
      )}
    </Page>
  );
}
