import type { ReactNode } from "react";
import { Link } from "wouter";
import { Page } from "../../components/Page";
import { useT } from "../../i18n/i18n";
import "../../styles/explore.css";

/** ExploreTabs is the frame of the pages about queries. */
export function ExploreTabs({
  here,
  actions,
  children,
}: {
  here: "/explore" | "/explore/slow";
  actions?: ReactNode;
  children: ReactNode;
}) {
  const { t } = useT();
  return (
    <Page title={t("nav.explore")} actions={actions}>
      <nav className="tabs" aria-label={t("nav.explore")}>
        {(["/explore", "/explore/slow"] as const).map((p) => (
          <Link key={p} href={p} aria-current={p === here ? "page" : undefined}>
            {t(p === "/explore" ? "explore.queries" : "slow.title")}
          </Link>
        ))}
      </nav>
      {children}
    </Page>
  );
}
