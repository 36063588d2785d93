import { Link, useParams } from "wouter";
import { useScrape } from "../../api/scrapes";
import { Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { useT } from "../../i18n/i18n";
import { specOf } from "../../lib/fields";
import { JobForm } from "./JobForm";
import "../../styles/platform.css";

/** EditorPage: a new scrape job, or a stored one. */
export default function EditorPage() {
  const { t } = useT();
  const { id } = useParams<{ id?: string }>();
  const source = useScrape(id);
  const j = source.data;
  return (
    <Page
      title={id ? t("scrapes.edit", { name: j?.name ?? id }) : t("scrapes.new")}
      back={{ href: "/scrapes/jobs", label: t("scrapes.jobs") }}
      actions={
        j && (
          <Link href={`/scrapes/${encodeURIComponent(j.id)}/versions`} className="row">
            <Icon name="events" size={16} />
            {t("rules.versions")}
          </Link>
        )
      }
    >
      {id ? (
        <Faces query={source} rows={4} height={120}>
          {j && <JobForm key={j.id} id={j.id} revision={j.revision} start={specOf(j)} />}
        </Faces>
      ) : (
        <JobForm />
      )}
    </Page>
  );
}
