import type { Explanation } from "../../api/prom";
import { dateTime, num, percent, span } from "../../i18n/format";
import { sentence, tMaybe, useT } from "../../i18n/i18n";
import { treeOf, type TreeNode } from "../../lib/promTree";

/** ExplainView says what a query reads and how it is put together, before it is run. */
export function ExplainView({ x, onPick }: { x: Explanation; onPick: (expr: string) => void }) {
  const { t } = useT();
  const selectors = x.selectors ?? [];
  return (
    <div className="explain">
      {(x.warnings ?? []).map((w) => (
        <p key={w} className="stale">
          {w}
        </p>
      ))}
      <p className="facts">
        <span>{t("explain.type", { type: tMaybe(`explain.type.${x.type}`) ?? x.type })}</span>
        <span>{t("explain.steps", { n: x.steps, step: span(x.step ?? 0) })}</span>
        <span>{t("explain.series", { n: selectors.reduce((s, y) => s + y.series, 0) })}</span>
        <span>{t("explain.parts", { n: x.parts })}</span>
        {x.cached > 0 && <span>{t("explain.cached", { share: percent(x.cached) })}</span>}
      </p>
      {x.whole && <p className="muted">{t("explain.whole", { reason: sentence(x.whole) })}</p>}
      {selectors.length > 0 && (
        // A wide table scrolls, and by keyboard too.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className="scroll-x" role="region" aria-label={t("explain.reads")} tabIndex={0}>
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">{t("explain.reads")}</th>
                <th scope="col" className="num">
                  {t("explore.series")}
                </th>
                <th scope="col">{t("explain.from")}</th>
                <th scope="col">{t("explain.to")}</th>
              </tr>
            </thead>
            <tbody>
              {selectors.map((s, i) => (
                <tr key={i}>
                  <td>
                    <button type="button" className="link mono break" onClick={() => onPick(s.selector)}>
                      {s.selector}
                    </button>
                  </td>
                  <td className="num">{num(s.series)}</td>
                  <td className="nowrap">{dateTime(s.from)}</td>
                  <td className="nowrap">{dateTime(s.to)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {x.tree !== undefined && (
        <>
          <h2 className="minor">{t("explain.tree")}</h2>
          <ul className="prom-tree">
            <Branch node={treeOf(x.tree)} />
          </ul>
        </>
      )}
    </div>
  );
}

function Branch({ node }: { node: TreeNode }) {
  const { t } = useT();
  return (
    <li>
      <span className="prom-node">
        <code>{node.text}</code>
        <small className="muted">{tMaybe(`explain.node.${node.kind}`) ?? t("explain.node.other")}</small>
      </span>
      {node.parts.length > 0 && (
        <ul>
          {node.parts.map((p, i) => (
            <Branch key={i} node={p} />
          ))}
        </ul>
      )}
    </li>
  );
}
