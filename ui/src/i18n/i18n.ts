import { useSyncExternalStore } from "react";
import type en from "../locales/en.json";

export type Key = keyof typeof en;
export type Lang = "en" | "zh-CN";
export const LANGS: Lang[] = ["en", "zh-CN"];
export const LANG_NAMES: Record<Lang, string> = { en: "English", "zh-CN": "简体中文" };
export type Params = Record<string, string | number>;

/** An entry is a text, or texts by plural category of the parameter n. */
type Entry = string | Partial<Record<Intl.LDMLPluralRule, string>>;
type Catalogue = Record<string, Entry>;

const loaders: Record<Lang, () => Promise<{ default: unknown }>> = {
  en: () => import("../locales/en.json"),
  "zh-CN": () => import("../locales/zh-CN.json"),
};
// Only languages other than the servers' own have one.
const sayers: Partial<Record<Lang, () => Promise<(text: string) => string>>> = {
  "zh-CN": async () => {
    const [{ sayer }, table] = await Promise.all([
      import("./sentences"),
      import("../locales/zh-CN.sentences.json"),
    ]);
    return sayer(table.default);
  },
};
const loaded = new Map<Lang, Catalogue>();
const said = new Map<Lang, (text: string) => string>();
const listeners = new Set<() => void>();
let current: Lang = "en";
let revision = 0;
let plural = new Intl.PluralRules("en");

/** asLang finds the catalogue for a language tag. */
export function asLang(tag: string | undefined | null): Lang | undefined {
  if (!tag) return undefined;
  if (/^zh\b/i.test(tag)) return "zh-CN";
  return /^en\b/i.test(tag) ? "en" : undefined;
}

/** preferredLanguage is what this browser chose before, what the account says, or what the browser speaks. */
export function preferredLanguage(account?: string): Lang {
  return (
    asLang(localStorage.getItem("panoptes.language")) ??
    asLang(account) ??
    navigator.languages.map(asLang).find((l) => l !== undefined) ??
    "en"
  );
}

/** loadLanguage fetches a catalogue and makes it the current one. */
export async function loadLanguage(lang: Lang): Promise<void> {
  if (!loaded.has(lang)) loaded.set(lang, (await loaders[lang]()).default as Catalogue);
  current = lang;
  plural = new Intl.PluralRules(lang);
  document.documentElement.lang = lang;
  changed();
  // Pages do not wait for it; until it is here, the server's words stay.
  loadSentences(lang).catch(() => undefined);
}

/** loadSentences fetches what the servers' own sentences are in a language. */
export async function loadSentences(lang: Lang): Promise<void> {
  const load = sayers[lang];
  if (!load || said.has(lang)) return;
  said.set(lang, await load());
  changed();
}

function changed() {
  revision++;
  listeners.forEach((f) => f());
}

/** chooseLanguage also remembers the choice in this browser. */
export async function chooseLanguage(lang: Lang): Promise<void> {
  localStorage.setItem("panoptes.language", lang);
  await loadLanguage(lang);
}

/** fill puts parameters into a text; "{n}" is written the way the language writes numbers. */
export function fill(text: string, params?: Params): string {
  if (!params) return text;
  return text.replace(/\{(\w+)\}/g, (all, name: string) => {
    const v = params[name];
    if (v === undefined) return all;
    return typeof v === "number" ? v.toLocaleString(current) : v;
  });
}

/** t is the text for a key in the current language. Components use useT, so that they follow a switch. */
export function t(key: Key, params?: Params): string {
  const e = loaded.get(current)?.[key];
  if (e === undefined) return key;
  if (typeof e === "string") return fill(e, params);
  return fill(e[plural.select(Number(params?.n ?? 0))] ?? e.other ?? key, params);
}

/** tMaybe looks a key up that may not exist, for codes that come from the server. */
export function tMaybe(key: string, params?: Params): string | undefined {
  return loaded.get(current)?.[key] === undefined ? undefined : t(key as Key, params);
}

/**
 * sentence says what a server says in English (a result, a fault, a reason) in
 * the current language. What is not known, as all that people wrote, is left as it is.
 */
export const sentence = (text: string): string => said.get(current)?.(text) ?? text;

/** language returns the current one, for Intl. */
export const language = (): Lang => current;

const subscribe = (f: () => void) => {
  listeners.add(f);
  return () => listeners.delete(f);
};

/** useT re-renders when the language changes, or more of it is here. */
export function useT() {
  useSyncExternalStore(subscribe, () => revision);
  return { t, lang: current };
}

/** pick chooses the current language of a text that the server sends in several. */
export function pick(text: Record<string, string> | undefined | null, fallback = ""): string {
  return text?.[current] ?? text?.en ?? fallback;
}
