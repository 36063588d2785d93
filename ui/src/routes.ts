import { lazy, useEffect, useState, type ComponentType, type LazyExoticComponent } from "react";
import { reachable } from "./api/client";
import type { IconName } from "./components/icons";
import type { Key } from "./i18n/i18n";
import { OverviewPage } from "./features/overview/OverviewPage";

interface Area {
  path: string;
  label: Key;
  icon: IconName;
  keys: string;
  /** Closed to users who are bound to labels. */
  whole?: true;
}

/** Areas are what menu, bottom bar, palette and shortcuts offer. */
export const AREAS: Area[] = [
  { path: "/", label: "nav.overview", icon: "home", keys: "g o" },
  { path: "/checks", label: "nav.checks", icon: "checks", keys: "g c" },
  { path: "/hosts", label: "nav.hosts", icon: "host", keys: "g h", whole: true },
  { path: "/alerts", label: "nav.alerts", icon: "bell", keys: "g a" },
  { path: "/silences", label: "nav.silences", icon: "mute", keys: "g s" },
  { path: "/rules", label: "nav.rules", icon: "rules", keys: "g r" },
  { path: "/events", label: "nav.events", icon: "events", keys: "g e" },
  { path: "/explore", label: "nav.explore", icon: "explore", keys: "g x" },
  { path: "/scrapes", label: "nav.scrapes", icon: "target", keys: "g p", whole: true },
  { path: "/servers", label: "nav.servers", icon: "servers", keys: "g v", whole: true },
  { path: "/settings", label: "nav.settings", icon: "settings", keys: "g t" },
];

/** areasFor lists what is open to a user. */
export const areasFor = (user: { bound?: Record<string, string> }): Area[] =>
  user.bound ? AREAS.filter((a) => !a.whole) : AREAS;

type Loader = () => Promise<{ default: ComponentType }>;

/**
 * page loads a view when it is first opened. What cannot be loaded is either
 * gone after an upgrade, or nobody answers: once somebody does, the tab reloads
 * when the view is looked at, since a browser may remember that it failed.
 */
function page(load: Loader): LazyExoticComponent<ComponentType> {
  return lazy(() => load().catch((e: unknown) => reachable().then(() => ({ default: reloading(e) }))));
}

function reloading(e: unknown): ComponentType {
  return function Reloading() {
    const mark = "panoptes.reloaded";
    const [again] = useState(() => Date.now() - Number(sessionStorage.getItem(mark) ?? 0) < 30_000);
    useEffect(() => {
      if (again) return;
      sessionStorage.setItem(mark, String(Date.now()));
      location.reload();
    }, [again]);
    if (again) throw e;
    return null;
  };
}

const ChecksPage = page(() => import("./features/checks/ChecksPage"));
const EditorPage = page(() => import("./features/checks/EditorPage"));
const DetailPage = page(() => import("./features/checks/DetailPage"));
const HostsPage = page(() => import("./features/hosts/HostsPage"));
const HostGroupsPage = page(() => import("./features/hosts/GroupsPage"));
const HostPage = page(() => import("./features/hosts/HostPage"));
const AlertsPage = page(() => import("./features/alerts/AlertsPage"));
const SilencesPage = page(() => import("./features/silences/SilencesPage"));
const EventsPage = page(() => import("./features/events/EventsPage"));
const ExplorePage = page(() => import("./features/explore/ExplorePage"));
const SlowPage = page(() => import("./features/explore/SlowPage"));
const RulesPage = page(() => import("./features/rules/RulesPage"));
const RuleSetsPage = page(() => import("./features/rules/SetsPage"));
const RuleEditorPage = page(() => import("./features/rules/EditorPage"));
const VersionsPage = page(() => import("./features/versions/VersionsPage"));
const ScrapesPage = page(() => import("./features/scrapes/ScrapesPage"));
const ScrapeJobsPage = page(() => import("./features/scrapes/JobsPage"));
const ScrapeEditorPage = page(() => import("./features/scrapes/EditorPage"));
const ServersPage = page(() => import("./features/servers/ServersPage"));
const ServerPage = page(() => import("./features/servers/ServerPage"));
const SettingsPage = page(() => import("./features/settings/SettingsPage"));

/** ROUTES maps addresses to views; the first that fits wins. */
export const ROUTES: { path: string; page: ComponentType }[] = [
  { path: "/", page: OverviewPage },
  { path: "/checks", page: ChecksPage },
  { path: "/checks/new", page: EditorPage },
  { path: "/checks/:id", page: DetailPage },
  { path: "/checks/:id/edit", page: EditorPage },
  { path: "/hosts", page: HostsPage },
  { path: "/hosts/groups", page: HostGroupsPage },
  { path: "/hosts/:id", page: HostPage },
  { path: "/alerts", page: AlertsPage },
  { path: "/silences", page: SilencesPage },
  { path: "/rules", page: RulesPage },
  { path: "/rules/sets", page: RuleSetsPage },
  { path: "/rules/new", page: RuleEditorPage },
  { path: "/rules/:id/edit", page: RuleEditorPage },
  { path: "/rules/:id/versions", page: VersionsPage },
  { path: "/events", page: EventsPage },
  { path: "/explore", page: ExplorePage },
  { path: "/explore/slow", page: SlowPage },
  { path: "/scrapes", page: ScrapesPage },
  { path: "/scrapes/jobs", page: ScrapeJobsPage },
  { path: "/scrapes/new", page: ScrapeEditorPage },
  { path: "/scrapes/:id/edit", page: ScrapeEditorPage },
  { path: "/scrapes/:id/versions", page: VersionsPage },
  { path: "/servers", page: ServersPage },
  { path: "/servers/:id", page: ServerPage },
  { path: "/settings", page: SettingsPage },
  { path: "/settings/:tab", page: SettingsPage },
];
