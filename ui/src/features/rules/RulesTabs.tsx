import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Page } from "../../components/Page";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import "../../styles/platform.css";

/** RulesTabs is the frame of the pages about rules: what they do now, and what is stored. */
export function RulesTabs({ here, children }: { here: "/rules" | "/rules/sets"; children: ReactNode }) {
  const { t } = useT();
  const [, go] = useLocation();
  const editor = useCan("editor");
  useKeys({ n: () => editor && go("/rules/new") });
  return (
    <Page
      title={t("nav.rules")}
      actions={
        editor && (
          <Button leftSection={<Icon name="plus" size={16} />} onClick={() => go("/rules/new")}>
            {t("rules.new")}
          </Button>
        )
      }
    >
      <nav className="tabs" aria-label={t("nav.rules")}>
        {(["/rules", "/rules/sets"] as const).map((p) => (
          <Link key={p} href={p} aria-current={p === here ? "page" : undefined}>
            {t(p === "/rules" ? "rules.tab.now" : "rules.tab.sets")}
          </Link>
        ))}
      </nav>
      {children}
    </Page>
  );
}
