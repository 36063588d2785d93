import { useState } from "react";
import { useSnapshot, type HostDetail, type Process } from "../../api/hosts";
import { Faces } from "../../components/faces";
import { num, span, timeOnly } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { Scroll } from "./tables";
import { iec, share } from "./view";

/** topOf sorts processes by what is asked and keeps the first. */
export function topOf(list: Process[], by: "cpu" | "memory", n = 12): Process[] {
  return [...list].sort((a, b) => (by === "cpu" ? b.cpu - a.cpu : b.resident - a.resident)).slice(0, n);
}

/** Processes is what runs now, asked of the agent while somebody looks. */
export function Processes({ h, every }: { h: HostDetail; every: number | false }) {
  const { t } = useT();
  const [by, setBy] = useState<"cpu" | "memory">("cpu");
  const query = useSnapshot(h.id, every);
  const s = query.data;
  const rows = topOf(s?.processes ?? [], by);
  const listeners = s?.connections?.listeners ?? [];
  return (
    <>
      <section className="card wide" aria-labelledby="h-top">
        <h3 id="h-top">
          {t("hosts.top")}
          <span className="segments small">
            {(["cpu", "memory"] as const).map((k) => (
              <button key={k} type="button" aria-pressed={by === k} onClick={() => setBy(k)}>
                {t(`hosts.${k}`)}
              </button>
            ))}
          </span>
          {s && <small className="muted more">{t("hosts.asof", { time: timeOnly(s.at) })}</small>}
        </h3>
        <Faces query={query} rows={4} height={30}>
          {rows.length ? (
            <Scroll label={t("hosts.top")}>
              <table className="plain">
                <thead>
                  <tr>
                    <th scope="col">{t("hosts.proc.name")}</th>
                    <th scope="col" className="num">
                      PID
                    </th>
                    <th scope="col" className="num">
                      {t("hosts.cpu")}
                    </th>
                    <th scope="col" className="num">
                      {t("hosts.memory")}
                    </th>
                    <th scope="col" className="num">
                      {t("hosts.n.threads")}
                    </th>
                    <th scope="col">{t("hosts.proc.runs")}</th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((p) => (
                    <tr key={p.pid}>
                      <th scope="row">
                        {p.name}
                        {p.program && p.program !== p.name && <small className="muted">{p.program}</small>}
                      </th>
                      <td className="num">{p.pid}</td>
                      <td className="num">{share(p.cpu)}</td>
                      <td className="num nowrap">{iec(p.resident)}</td>
                      <td className="num">{num(p.threads ?? 1)}</td>
                      <td className="nowrap">
                        {p.started ? span((Date.parse(s?.at ?? "") - Date.parse(p.started)) / 1000) : "–"}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </Scroll>
          ) : (
            <p className="muted">{t("chart.nodata")}</p>
          )}
        </Faces>
      </section>
      {listeners.length > 0 && (
        <section className="card wide" aria-labelledby="h-ports">
          <h3 id="h-ports">
            {t("hosts.ports")} <span className="tally">{num(listeners.length)}</span>
          </h3>
          <ul className="ports">
            {listeners.map((l) => (
              <li key={`${l.protocol} ${l.address} ${l.port}`}>
                <b>{l.port}</b> <span className="muted">{l.protocol}</span> {l.address}
                {l.established > 0 && <small> {t("hosts.ports.used", { n: l.established })}</small>}
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}
