import { useMantineColorScheme } from "@mantine/core";
import type { ReactNode } from "react";
import { Link } from "wouter";
import { logout, patchMe } from "../../api/me";
import { Dialog } from "../../components/Dialog";
import { Icon } from "../../components/icons";
import { toastError } from "../../components/toast";
import { chooseLanguage, useT, type Lang } from "../../i18n/i18n";
import { useSession } from "../../session";
import { MODES } from "../../theme";
import { LiveDot } from "./LiveDot";

/** switchLanguage changes the page at once and tells the account, so that messages follow. */
export function switchLanguage(lang: Lang): void {
  void chooseLanguage(lang);
  patchMe({ language: lang }).catch(() => undefined);
}

/** Preferences: theme, language, account and the way out, at the foot of the menu. */
export function Preferences() {
  const { t, lang } = useT();
  const { user, server } = useSession();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const next = MODES[(MODES.indexOf(colorScheme) + 1) % MODES.length] ?? "auto";
  const other: Lang = lang === "en" ? "zh-CN" : "en";
  return (
    <>
      <div className="prefs">
        <button
          type="button"
          className="icon-button"
          data-testid="theme"
          aria-label={t("theme.switch", { now: t(`theme.${colorScheme}`), next: t(`theme.${next}`) })}
          title={t("theme.switch", { now: t(`theme.${colorScheme}`), next: t(`theme.${next}`) })}
          onClick={() => setColorScheme(next)}
        >
          <Icon name={colorScheme === "dark" ? "moon" : colorScheme === "light" ? "sun" : "auto"} />
        </button>
        <button
          type="button"
          className="icon-button lang"
          data-testid="language"
          lang={other}
          onClick={() => switchLanguage(other)}
        >
          <Icon name="globe" />
          {other === "en" ? "English" : "中文"}
        </button>
        <button
          type="button"
          className="icon-button"
          aria-label={t("nav.logout")}
          title={t("nav.logout")}
          onClick={() => logout().catch(toastError)}
        >
          <Icon name="logout" />
        </button>
      </div>
      <Link href="/settings/profile" className="account">
        <Icon name="user" size={16} />
        <span>
          {user.display_name || user.name}
          <small>
            {t(`role.${user.role}`)} · {server.name || server.node} {server.version}
          </small>
        </span>
      </Link>
    </>
  );
}

/** MoreSheet holds on a phone what the bottom bar has no room for. */
export function MoreSheet({ onClose, links }: { onClose: () => void; links: ReactNode }) {
  const { t } = useT();
  return (
    <Dialog title={t("nav.more")} onClose={onClose} side>
      {/* A click on any of the links also closes the sheet. */}
      {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions, jsx-a11y/click-events-have-key-events */}
      <div className="sheet" onClick={(e) => (e.target as HTMLElement).closest("a") && onClose()}>
        {links}
        <hr />
        <LiveDot />
        <Preferences />
      </div>
    </Dialog>
  );
}
