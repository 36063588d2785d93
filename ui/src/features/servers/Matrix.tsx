import type { Node } from "../../api/cluster";
import { StatusIcon } from "../../components/Status";
import { useT } from "../../i18n/i18n";
import { face, seen, sides } from "./view";

/** Matrix shows who sees whom; members are ordered by side, so that a cut is a block of red. */
export function Matrix({ nodes }: { nodes: Node[] }) {
  const { t } = useT();
  const { here, there } = sides(nodes);
  const all = [...here, ...there];
  const side = (n: Node) => (there.length ? (there.includes(n) ? " there" : " here") : "");
  const edge = (n: Node) => (n === there[0] ? " edge" : "");
  return (
    <section className="card" aria-labelledby="sv-matrix">
      <h2 id="sv-matrix">{t("servers.matrix")}</h2>
      <p className="muted">{t(there.length ? "servers.matrix.cut" : "servers.matrix.whole")}</p>
      {/* A table that is wider than a phone scrolls, and by keyboard too. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="scroll-x" role="group" aria-labelledby="sv-matrix" tabIndex={0}>
        <table className="matrix">
          <thead>
            <tr>
              <td>
                <small className="muted">{t("servers.matrix.corner")}</small>
              </td>
              {all.map((n) => (
                <th key={n.id} scope="col" className={side(n) + edge(n)}>
                  {n.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {all.map((from) => (
              <tr key={from.id} className={edge(from)}>
                <th scope="row" className={side(from)}>
                  {from.name}
                  <small className="muted">
                    {there.length > 0 && t(there.includes(from) ? "servers.there" : "servers.here")}
                  </small>
                </th>
                {all.map((to) => (
                  <Cell key={to.id} from={from} to={to} edge={edge(to)} />
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Cell({ from, to, edge }: { from: Node; to: Node; edge: string }) {
  const { t } = useT();
  if (from.id === to.id) return <td className={`self${edge}`} aria-label={t("servers.matrix.self")} />;
  const state = seen(from, to);
  const text = state
    ? t("servers.matrix.cell", { from: from.name, to: to.name, state: t(`servers.state.${state}`) })
    : t("servers.matrix.unheard", { from: from.name });
  return (
    <td className={`seen seen-${state ? face(state) : "none"}${edge}`} title={text}>
      {state ? <StatusIcon status={face(state)} size={18} /> : <span aria-hidden="true">?</span>}
      <span className="sr">{text}</span>
    </td>
  );
}
