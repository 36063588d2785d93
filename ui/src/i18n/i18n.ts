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
const loaded = new Map<Lang, Catalogue>();
const listeners = new Set<() => void>();
let current: Lang = "en";
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

/** language returns the current one, for Intl. */
export const language = (): Lang => current;

const subscribe = (f: () => void) => {
  listeners.add(f);
  return () => listeners.delete(f);
};

/** useT re-renders when the language changes. */
export function useT() {
  const lang = useSyncExternalStore(subscribe, language);
  return { t, lang };
}

/** pick chooses the current language of a text that the server sends in several. */
export function pick(text: Record<string, string> | undefined | null, fallback = ""): string {
  return text?.[current] ?? text?.en ?? fallback;
}
