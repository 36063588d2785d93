import { useCallback } from "react";
import { useSearchParams } from "wouter";

/** useUrl keeps the state of a view in the address. */
export function useUrl() {
  const [params, setParams] = useSearchParams();
  const get = (name: string) => params.get(name) ?? "";
  const list = (name: string) => (params.get(name) ?? "").split(",").filter(Boolean);
  /** set changes some parameters; an empty value removes one. */
  const set = useCallback(
    (change: Record<string, string | string[] | undefined>, push = false) =>
      setParams(
        (old) => {
          const p = new URLSearchParams(old);
          for (const [k, v] of Object.entries(change)) {
            p.delete(k);
            if (Array.isArray(v)) v.forEach((x) => p.append(k, x));
            else if (v) p.set(k, v);
          }
          return p;
        },
        { replace: !push },
      ),
    [setParams],
  );
  return { params, get, list, set };
}
