import type { Route } from "../../api/types";

export interface RouteNode {
  route: Route;
  /** The receiver in force, inherited from above where the route names none. */
  receiver: string;
  children: RouteNode[];
}

/** routeTree hangs routes under their parents, in the order in which they are tried. */
export function routeTree(routes: Route[]): RouteNode[] {
  const ids = new Map(routes.flatMap((r) => [[r.name, r.id] as const, [r.id, r.id] as const]));
  const parentOf = (r: Route) => (r.parent ? (ids.get(r.parent) ?? "") : "");
  const under = (parent: string, inherited: string, depth: number): RouteNode[] =>
    depth > 32
      ? []
      : routes
          .filter((r) => parentOf(r) === parent && r.id !== parent)
          .sort((a, b) => (a.position ?? 0) - (b.position ?? 0) || a.name.localeCompare(b.name))
          .map((route) => {
            const receiver = route.receiver || inherited;
            return { route, receiver, children: under(route.id, receiver, depth + 1) };
          });
  return under("", "", 0);
}
