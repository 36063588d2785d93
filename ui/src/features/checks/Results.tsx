import type { RunResult, Sample } from "../../api/types";
import { StatusIcon, StatusPill } from "../../components/Status";
import { num, seconds } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { seriesName } from "../../lib/series";

const labelsOf = (s: Sample): Record<string, string> => {
  if (!Array.isArray(s.labels)) return s.labels ?? {};
  const out: Record<string, string> = {};
  for (let i = 0; i + 1 < s.labels.length; i += 2) out[s.labels[i] ?? ""] = s.labels[i + 1] ?? "";
  return out;
};

/** Results shows what each place found: verdict, assertion by assertion, samples, evidence. */
export function Results({ results }: { results: RunResult[] }) {
  const { t } = useT();
  if (!results.length) return <p className="muted">{t("check.noresults")}</p>;
  return (
    <div className="results">
      {results.map((r) => (
        <article key={r.region + r.prober} className="result">
          <header>
            <StatusPill status={r.success ? (r.degraded ? "degraded" : "up") : "down"} />
            <b>{r.region}</b>
            <span>{sentence(r.message)}</span>
            <span className="muted num">{seconds(r.duration_seconds)}</span>
          </header>
          {!!r.assertions?.length && (
            <ul className="assertions">
              {r.assertions.map((a, i) => (
                <li key={i}>
                  <StatusIcon status={a.passed ? "up" : "down"} size={14} />
                  <span className="sr">{t(a.passed ? "check.passed" : "check.failed")}</span>
                  <code>{sentence(a.text)}</code>
                  <span className="muted">{t("check.was", { found: sentence(a.found) })}</span>
                </li>
              ))}
            </ul>
          )}
          {!!r.evidence && (
            <details>
              <summary>{t("check.evidence")}</summary>
              <pre>{JSON.stringify(r.evidence, null, 2)}</pre>
            </details>
          )}
          {!!r.samples?.length && (
            <details>
              <summary>{t("check.samples", { n: r.samples.length })}</summary>
              <table className="plain samples">
                <tbody>
                  {r.samples.map((s, i) => (
                    <tr key={i}>
                      <td>
                        <code>{seriesName({ __name__: s.name, ...labelsOf(s) })}</code>
                      </td>
                      <td className="num">{num(s.value, 6)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </details>
          )}
        </article>
      ))}
    </div>
  );
}
