import { Link, useParams } from "wouter";
import { Page } from "../../components/Page";
import { NotFound } from "../shell/NotFound";
import { useT } from "../../i18n/i18n";
import { useCan, useSession } from "../../session";
import { AboutTab } from "./AboutTab";
import { BackupTab } from "./BackupTab";
import { KeysTab } from "./KeysTab";
import { MaintenanceTab } from "./MaintenanceTab";
import { ProfileTab } from "./ProfileTab";
import { ReceiversTab } from "./ReceiversTab";
import { RegionsTab } from "./RegionsTab";
import { RoutesTab } from "./RoutesTab";
import { SelfTab } from "./SelfTab";
import { UsersTab } from "./UsersTab";

const TABS = [
  { name: "receivers", view: ReceiversTab },
  { name: "routes", view: RoutesTab },
  { name: "maintenance", view: MaintenanceTab },
  { name: "regions", view: RegionsTab },
  { name: "self", view: SelfTab },
  { name: "users", view: UsersTab, admin: true },
  { name: "keys", view: KeysTab, admin: true },
  { name: "backup", view: BackupTab, admin: true },
  { name: "profile", view: ProfileTab },
  { name: "about", view: AboutTab },
] as const;

export default function SettingsPage() {
  const { t } = useT();
  const admin = useCan("admin");
  const { user } = useSession();
  const tabs = TABS.filter((x) => (user.bound ? x.name === "profile" : !("admin" in x) || admin));
  const { tab = tabs[0]?.name } = useParams<{ tab?: string }>();
  const current = tabs.find((x) => x.name === tab);
  if (!current) return <NotFound />;
  const View = current.view;
  return (
    <Page title={t(`settings.${current.name}`)} heading={t("nav.settings")}>
      <nav className="tabs" aria-label={t("nav.settings")}>
        {tabs.map((x) => (
          <Link key={x.name} href={`/settings/${x.name}`} aria-current={x.name === tab ? "page" : undefined}>
            {t(`settings.${x.name}`)}
          </Link>
        ))}
      </nav>
      <View />
    </Page>
  );
}
