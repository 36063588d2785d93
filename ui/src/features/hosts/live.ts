import { useEffect, useState, useSyncExternalStore } from "react";
import { ApiError } from "../../api/client";
import { keepLive } from "../../api/hosts";

const watch = (f: () => void) => {
  document.addEventListener("visibilitychange", f);
  return () => document.removeEventListener("visibilitychange", f);
};

/** useVisible says whether somebody can see the page. */
export const useVisible = (): boolean => useSyncExternalStore(watch, () => !document.hidden);

export type LiveMode = "off" | "on" | "away" | "failed";
const EVERY = 10_000;

/** useLiveMode has the agent send each second while wanted: "away" when its agent talks to no server. */
export function useLiveMode(id: string, wanted: boolean): LiveMode {
  const [answer, setAnswer] = useState<Exclude<LiveMode, "off">>("on");
  useEffect(() => {
    if (!wanted) return;
    let gone = false;
    const again = () => {
      keepLive(id).then(
        () => !gone && setAnswer("on"),
        (e: unknown) => !gone && setAnswer(e instanceof ApiError && e.status === 503 ? "away" : "failed"),
      );
    };
    again();
    const timer = setInterval(again, EVERY);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [id, wanted]);
  return wanted ? answer : "off";
}
