import { useSyncExternalStore } from "react";
import { errorText } from "../i18n/errors";
import { useT } from "../i18n/i18n";
import { Icon } from "./icons";

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}
let toasts: Toast[] = [];
let seq = 0;
const listeners = new Set<() => void>();
const subscribe = (f: () => void) => {
  listeners.add(f);
  return () => listeners.delete(f);
};
function set(t: Toast[]) {
  toasts = t;
  listeners.forEach((f) => f());
}
const drop = (id: number) => set(toasts.filter((x) => x.id !== id));

/** toast says in the corner what was done. */
export function toast(text: string, bad = false): void {
  const id = ++seq;
  set([...toasts.slice(-3), { id, text, bad }]);
  setTimeout(() => drop(id), bad ? 12_000 : 5_000);
}

/** toastError says what failed and why. */
export const toastError = (e: unknown) => toast(errorText(e), true);

export function ToastHost() {
  const { t } = useT();
  const list = useSyncExternalStore(subscribe, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {list.map((x) => (
        <div key={x.id} className={x.bad ? "toast bad" : "toast"}>
          <span>{x.text}</span>
          <button
            type="button"
            className="icon-button"
            aria-label={t("common.close")}
            onClick={() => drop(x.id)}
          >
            <Icon name="close" size={14} />
          </button>
        </div>
      ))}
    </div>
  );
}
