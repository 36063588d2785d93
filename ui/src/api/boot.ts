import { get } from "./client";
import type { Boot, Me } from "./types";

/** boot reads what the server wrote into the page, or asks for it. */
export async function boot(): Promise<Boot> {
  const el = document.getElementById("boot");
  if (el?.textContent) {
    try {
      const b = JSON.parse(el.textContent) as Boot;
      if (b.user?.name) return b;
      return { ...(await get<Me>("v1/me")), ...(b.nonce ? { nonce: b.nonce } : {}) };
    } catch (e) {
      if (!(e instanceof SyntaxError)) throw e;
    }
  }
  return get<Me>("v1/me");
}
