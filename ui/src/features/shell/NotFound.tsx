import { Link } from "wouter";
import { Empty } from "../../components/faces";
import { Page } from "../../components/Page";
import { useT } from "../../i18n/i18n";

export function NotFound() {
  const { t } = useT();
  return (
    <Page title={t("notfound.title")}>
      <Empty
        icon="search"
        title={t("notfound.title")}
        text={t("notfound.text")}
        action={<Link href="/">{t("notfound.action")}</Link>}
      />
    </Page>
  );
}
