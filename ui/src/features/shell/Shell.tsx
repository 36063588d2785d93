import { lazy, Suspense, useMemo, useRef, useState, type ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { useCluster } from "../../api/cluster";
import { useMe } from "../../api/me";
import { useOverview } from "../../api/overview";
import type { Boot } from "../../api/types";
import { useKeys } from "../../components/keys";
import { Icon, Logo } from "../../components/icons";
import { useT } from "../../i18n/i18n";
import { areasFor } from "../../routes";
import { Session } from "../../session";
import { ClusterStrip } from "./ClusterStrip";
import { LiveDot } from "./LiveDot";
import { OfflineStrip } from "./OfflineStrip";
import { MoreSheet, Preferences } from "./Preferences";

const Palette = lazy(() => import("./Palette"));
const Help = lazy(() => import("./Help"));

/** BAR has the areas at the foot of a phone; the sheet has the others. */
const BAR = ["/", "/checks", "/hosts", "/alerts"];
const active = (path: string, here: string) =>
  path === "/" ? here === "/" : here === path || here.startsWith(`${path}/`);

export function Shell({ boot, children }: { boot: Boot; children: ReactNode }) {
  const { t } = useT();
  const [here, go] = useLocation();
  const account = useMe(boot).data;
  const areas = areasFor(account.user);
  const cluster = useCluster(!account.user.bound).data;
  const me = useMemo(
    () => (cluster ? { ...account, writable: cluster.writable } : account),
    [account, cluster],
  );
  const counts = useOverview().data;
  const [open, setOpen] = useState<"" | "palette" | "help" | "more">("");
  const main = useRef<HTMLElement>(null);
  useKeys({
    "mod+k": () => setOpen("palette"),
    "?": () => setOpen("help"),
    "/": () => document.querySelector<HTMLInputElement>("[data-filter]")?.focus(),
    ...Object.fromEntries(areas.map((a) => [a.keys, () => go(a.path)])),
  });
  const alerts = (counts?.alerts.critical ?? 0) + (counts?.alerts.warning ?? 0);
  const bad = counts?.checks.down ?? 0;
  const badge = (path: string) => (path === "/alerts" ? alerts : path === "/checks" ? bad : 0);
  const link = (a: (typeof areas)[number]) => (
    <Link
      key={a.path}
      href={a.path}
      className="nav-link"
      aria-current={active(a.path, here) ? "page" : undefined}
    >
      <Icon name={a.icon} size={19} />
      <span>{t(a.label)}</span>
      {badge(a.path) > 0 && (
        <span
          className="badge"
          aria-label={t(a.path === "/alerts" ? "nav.badge.alerts" : "nav.badge.checks", { n: badge(a.path) })}
        >
          {badge(a.path)}
        </span>
      )}
    </Link>
  );
  return (
    <Session value={me}>
      <button type="button" className="skip" onClick={() => main.current?.focus()}>
        {t("nav.skip")}
      </button>
      <div className="shell">
        <nav className="side" aria-label={t("nav.main")}>
          <Link href="/" className="brand">
            <Logo />
            <span>Panoptes</span>
          </Link>
          <button
            type="button"
            className="palette-button"
            onClick={() => setOpen("palette")}
            aria-keyshortcuts="Control+K"
          >
            <Icon name="search" size={15} />
            <span>{t("palette.open")}</span>
            <kbd>Ctrl K</kbd>
          </button>
          <div className="nav-links">{areas.map(link)}</div>
          <div className="side-foot">
            <LiveDot />
            <Preferences />
          </div>
        </nav>
        <main ref={main} tabIndex={-1} id="main">
          <OfflineStrip />
          <ClusterStrip me={me} cluster={cluster} />
          {children}
        </main>
        <nav className="bottom" aria-label={t("nav.bottom")}>
          {areas.filter((a) => BAR.includes(a.path)).map(link)}
          <button type="button" className="nav-link" onClick={() => setOpen("more")}>
            <Icon name="more" size={19} strokeWidth={3} />
            <span>{t("nav.more")}</span>
          </button>
        </nav>
      </div>
      <Suspense fallback={null}>
        {open === "palette" && <Palette onClose={() => setOpen("")} onHelp={() => setOpen("help")} />}
        {open === "help" && <Help onClose={() => setOpen("")} />}
      </Suspense>
      {open === "more" && (
        <MoreSheet onClose={() => setOpen("")} links={areas.filter((a) => !BAR.includes(a.path)).map(link)} />
      )}
    </Session>
  );
}
