import { Button } from "@mantine/core";
import { useSyncExternalStore } from "react";
import { useT } from "../i18n/i18n";
import { Dialog } from "./Dialog";

interface Ask {
  title: string;
  text: string;
  action: string;
  danger?: boolean;
  done: (yes: boolean) => void;
}

let current: Ask | null = null;
const listeners = new Set<() => void>();
const subscribe = (f: () => void) => {
  listeners.add(f);
  return () => listeners.delete(f);
};
function set(a: Ask | null) {
  current = a;
  listeners.forEach((f) => f());
}

/** confirm asks before something that cannot be undone; it resolves to the answer. */
export function confirm(a: Omit<Ask, "done">): Promise<boolean> {
  return new Promise((resolve) => {
    current?.done(false);
    set({
      ...a,
      done: (yes) => {
        set(null);
        resolve(yes);
      },
    });
  });
}

export function ConfirmHost() {
  const { t } = useT();
  const ask = useSyncExternalStore(subscribe, () => current);
  if (!ask) return null;
  return (
    <Dialog title={ask.title} onClose={() => ask.done(false)}>
      <p>{ask.text}</p>
      <div className="actions">
        <Button variant="default" onClick={() => ask.done(false)} data-autofocus>
          {t("common.cancel")}
        </Button>
        <Button color={ask.danger === false ? "indigo" : "red"} onClick={() => ask.done(true)}>
          {ask.action}
        </Button>
      </div>
    </Dialog>
  );
}
