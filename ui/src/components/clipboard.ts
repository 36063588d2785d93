import { t } from "../i18n/i18n";
import { toast } from "./toast";

/**
 * copy puts a text on the clipboard and says so. Browsers offer the clipboard
 * to pages over HTTPS and of this machine only; elsewhere a selection is copied.
 */
export async function copy(text: string): Promise<void> {
  const done = window.isSecureContext
    ? await navigator.clipboard.writeText(text).then(
        () => true,
        () => select(text),
      )
    : select(text);
  if (done) toast(t("common.copied"));
  else toast(t("common.notcopied"), true);
}

function select(text: string): boolean {
  const back = document.activeElement as HTMLElement | null;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr";
  area.setAttribute("aria-hidden", "true");
  // What lies outside of an open dialog cannot be selected.
  (back?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  back?.focus();
  return done;
}
