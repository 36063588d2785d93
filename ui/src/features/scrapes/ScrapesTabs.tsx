import { Button } from "@mantine/core";
import { useState, type ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Page } from "../../components/Page";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { ImportDialog } from "./ImportDialog";
import "../../styles/platform.css";

/** ScrapesTabs is the frame of the pages about scraping: what is read now, and the jobs. */
export function ScrapesTabs({ here, children }: { here: "/scrapes" | "/scrapes/jobs"; children: ReactNode }) {
  const { t } = useT();
  const [, go] = useLocation();
  const editor = useCan("editor");
  const admin = useCan("admin");
  const [importing, setImporting] = useState(false);
  useKeys({ n: () => editor && go("/scrapes/new") });
  return (
    <Page
      title={t("nav.scrapes")}
      actions={
        <>
          {admin && (
            <Button variant="default" onClick={() => setImporting(true)}>
              {t("scrapes.import")}
            </Button>
          )}
          {editor && (
            <Button leftSection={<Icon name="plus" size={16} />} onClick={() => go("/scrapes/new")}>
              {t("scrapes.new")}
            </Button>
          )}
        </>
      }
    >
      <nav className="tabs" aria-label={t("nav.scrapes")}>
        {(["/scrapes", "/scrapes/jobs"] as const).map((p) => (
          <Link key={p} href={p} aria-current={p === here ? "page" : undefined}>
            {t(p === "/scrapes" ? "scrapes.targets" : "scrapes.jobs")}
          </Link>
        ))}
      </nav>
      {children}
      {importing && <ImportDialog onClose={() => setImporting(false)} />}
    </Page>
  );
}
