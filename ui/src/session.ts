import { createContext, useContext } from "react";
import type { Me, Role } from "./api/types";

/** Session is who is logged in and whether the cluster takes changes now. */
export const Session = createContext<Me | null>(null);

export function useSession(): Me {
  const me = useContext(Session);
  if (!me) throw new Error("useSession outside of Session");
  return me;
}

const ORDER: Role[] = ["viewer", "editor", "admin"];

/** useCan says whether the user's role allows what a role may do. */
export const useCan = (need: Role) => ORDER.indexOf(useSession().user.role) >= ORDER.indexOf(need);
