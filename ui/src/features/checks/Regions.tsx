import type { Check, Uptime } from "../../api/types";
import { StatusPill } from "../../components/Status";
import { ago, dateTime, percent, seconds, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";

/** Regions shows each place's vote. */
export function Regions({ c, uptime }: { c: Check; uptime: Uptime | undefined }) {
  const { t } = useT();
  const now = useNow();
  const regions = Object.entries(c.state?.regions ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return (
    <section className="card" aria-labelledby="ck-regions">
      <h2 id="ck-regions">{t("check.regions")}</h2>
      {regions.length ? (
        // A table that is wider than a phone scrolls, and by keyboard too.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className="scroll-x" role="group" aria-labelledby="ck-regions" tabIndex={0}>
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">{t("checks.region")}</th>
                <th scope="col">{t("checks.status")}</th>
                <th scope="col">{t("check.found")}</th>
                <th scope="col" className="num">
                  {t("checks.response")}
                </th>
                <th scope="col" className="num">
                  {t("check.reach24")}
                </th>
                <th scope="col" className="num">
                  {t("check.reach30")}
                </th>
                <th scope="col">{t("check.prober")}</th>
                <th scope="col">{t("check.at")}</th>
              </tr>
            </thead>
            <tbody>
              {regions.map(([name, r]) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td>
                    <StatusPill status={r.status} />
                  </td>
                  <td>{sentence(r.message)}</td>
                  <td className="num">{seconds(r.duration_seconds)}</td>
                  <td className="num">{percent(uptime?.regions?.[name]?.["24h"])}</td>
                  <td className="num">{percent(uptime?.regions?.[name]?.["30d"])}</td>
                  <td className="muted">{r.prober}</td>
                  <td className="nowrap" title={dateTime(r.at)}>
                    {ago(r.at, now)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <p className="muted">{t("check.noregions")}</p>
      )}
    </section>
  );
}
