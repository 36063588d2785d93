import type { PromData } from "../../api/types";
import { useT } from "../../i18n/i18n";
import { seriesName } from "../../lib/series";

const MOST = 1000;

export function ExploreTable({ data }: { data: PromData }) {
  const { t } = useT();
  if (data.resultType === "scalar" || data.resultType === "string")
    return (
      <p className="mono">
        {t(`explore.${data.resultType}`)}: {data.result[1]}
      </p>
    );
  if (!data.result.length) return <p className="muted nodata">{t("explore.nothing")}</p>;
  return (
    // A wide table scrolls, and by keyboard too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="scroll-x" role="region" aria-label={t("explore.table")} tabIndex={0}>
      <table className="plain">
        <thead>
          <tr>
            <th scope="col">{t("explore.series")}</th>
            <th scope="col" className="num">
              {t("explore.value")}
            </th>
          </tr>
        </thead>
        <tbody>
          {data.result.slice(0, MOST).map((s, i) => (
            <tr key={i}>
              <td className="mono break">{seriesName(s.metric)}</td>
              <td className="num mono">
                {s.value?.[1] ??
                  s.values?.map(([at, v]) => (
                    <div key={at}>
                      {v} @{at}
                    </div>
                  ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {data.result.length > MOST && (
        <p className="stale">{t("explore.toomany", { n: data.result.length, shown: MOST })}</p>
      )}
    </div>
  );
}
