import { useEffect } from "react";
import { useBrowserLocation, type BrowserLocationHook } from "wouter/use-browser-location";
import { t } from "../i18n/i18n";
import { confirm } from "./confirm";

let dirty = 0;

/** useUnsaved warns before a form with changes is left. */
export function useUnsaved(changed: boolean): void {
  useEffect(() => {
    if (!changed) return;
    dirty++;
    const stay = (e: BeforeUnloadEvent) => e.preventDefault();
    addEventListener("beforeunload", stay);
    return () => {
      dirty--;
      removeEventListener("beforeunload", stay);
    };
  }, [changed]);
}

/** release lets the next navigation pass: the form was saved. */
let pass = false;
export function release(): void {
  pass = true;
}

/** useGuardedLocation is the browser's location, but asks before it leaves a changed form. */
export const useGuardedLocation: BrowserLocationHook = (o) => {
  const [path, navigate] = useBrowserLocation(o);
  const guarded: typeof navigate = (to, options) => {
    if (!dirty || pass) {
      pass = false;
      navigate(to, options);
      return;
    }
    void confirm({ title: t("unsaved.title"), text: t("unsaved.text"), action: t("unsaved.leave") }).then(
      (yes) => {
        if (yes) navigate(to, options);
      },
    );
  };
  return [path, guarded];
};
