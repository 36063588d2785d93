import { useEffect, useRef } from "react";

/** Keyboard shortcuts: "j", "?", "mod+k", and two in a row: "g o". */
export type KeyMap = Record<string, (e: KeyboardEvent) => void>;

const stack: { current: KeyMap }[] = [];
let first = "";
let firstAt = 0;

function typing(e: KeyboardEvent): boolean {
  const el = e.target as HTMLElement | null;
  return !!el && (/^(INPUT|TEXTAREA|SELECT)$/.test(el.tagName) || el.isContentEditable);
}

/** keyName spells a key press the way maps do. */
export function keyName(e: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">): string {
  const k = e.key.length === 1 ? e.key : e.key.toLowerCase();
  return e.ctrlKey || e.metaKey ? `mod+${k.toLowerCase()}` : e.altKey ? `alt+${k}` : k;
}

function onKey(e: KeyboardEvent) {
  const name = keyName(e);
  const modal = document.querySelector("dialog[open]") !== null;
  if (!name.startsWith("mod+") && (typing(e) || modal)) return;
  const chord = e.timeStamp - firstAt < 1000 && first ? `${first} ${name}` : "";
  first = "";
  for (const name2 of chord ? [chord, name] : [name]) {
    for (let i = stack.length - 1; i >= 0; i--) {
      const f = stack[i]?.current[name2];
      if (!f) continue;
      e.preventDefault();
      f(e);
      return;
    }
  }
  first = name;
  firstAt = e.timeStamp;
}

/** useKeys registers shortcuts while the component is there; the newest wins. */
export function useKeys(map: KeyMap): void {
  const ref = useRef(map);
  useEffect(() => {
    ref.current = map;
  });
  useEffect(() => {
    if (!stack.length) document.addEventListener("keydown", onKey);
    stack.push(ref);
    return () => {
      stack.splice(stack.indexOf(ref), 1);
      if (!stack.length) document.removeEventListener("keydown", onKey);
    };
  }, []);
}
