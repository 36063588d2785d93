import type { HostAction, HostDetail } from "../../api/hosts";
import { StatusIcon } from "../../components/Status";
import { num, span, useNow } from "../../i18n/format";
import { tMaybe, useT } from "../../i18n/i18n";
import { useFacts, type Fact } from "./facts";
import { Restart } from "./Restart";
import { Scroll } from "./tables";
import { ways } from "./series";

interface Service {
  kind: string;
  name: string;
  up: boolean;
  /** Unix seconds. */
  since: number | undefined;
  restarts: number;
}

const id = (m: Record<string, string>) => `${m.kind ?? ""}/${m.name ?? ""}`;

/** services joins what is known of the watched ones: what does not run comes first. */
export function services(facts: ReadonlyMap<string, Fact[]> | undefined): Service[] {
  const by = (k: string) => new Map((facts?.get(k) ?? []).map((f) => [id(f.metric), f.value]));
  const since = by("since");
  const restarts = by("restarts");
  return (facts?.get("up") ?? [])
    .map((f) => ({
      kind: f.metric.kind ?? "",
      name: f.metric.name ?? "",
      up: f.value === 1,
      since: since.get(id(f.metric)),
      restarts: Math.round(restarts.get(id(f.metric)) ?? 0),
    }))
    .sort(
      (a, b) => Number(a.up) - Number(b.up) || a.kind.localeCompare(b.kind) || a.name.localeCompare(b.name),
    );
}

/** Only these have somebody who would start them again. */
const restartable = (kind: string): kind is HostAction["kind"] => kind === "unit" || kind === "container";

/** Services are those that the host's file or a group names. */
export function Services({ h, at, interval }: { h: HostDetail; at: number | null; interval: number }) {
  const { t } = useT();
  const clock = useNow();
  const { sel } = ways(h.name, { length: 3600, end: null }, interval);
  const query = useFacts(
    "services",
    [
      ["up", sel("panoptes_service_up")],
      ["since", sel("panoptes_service_start_time_seconds")],
      ["restarts", `increase(${sel("panoptes_service_restarts_total")}[1d])`],
    ],
    at,
    15_000,
  );
  const list = services(query.data);
  if (!list.length) return null;
  const down = list.filter((s) => !s.up).length;
  const now = at ?? clock / 1000;
  return (
    <section className="card wide" aria-labelledby="h-services">
      <h3 id="h-services">
        {t("hosts.services")}
        <span className="row">
          <StatusIcon status={down ? "down" : "up"} size={14} />
          {down ? t("hosts.services.down", { n: down }) : t("hosts.services.well", { n: list.length })}
        </span>
      </h3>
      <Scroll label={t("hosts.services")}>
        <table className="plain">
          <thead>
            <tr>
              <th scope="col">{t("checks.name")}</th>
              <th scope="col">{t("events.kind")}</th>
              <th scope="col">{t("checks.status")}</th>
              <th scope="col">{t("hosts.box.runs")}</th>
              <th scope="col" className="num">
                {t("hosts.units.restarts")}
              </th>
              <td />
            </tr>
          </thead>
          <tbody>
            {list.map((s) => (
              <tr key={`${s.kind}/${s.name}`}>
                <th scope="row">{s.name}</th>
                <td className="muted">{tMaybe(`hosts.service.${s.kind}`) ?? s.kind}</td>
                <td className="nowrap">
                  <span className="row">
                    <StatusIcon status={s.up ? "up" : "down"} size={14} />
                    {t(s.up ? "hosts.service.up" : "hosts.service.down")}
                  </span>
                </td>
                <td className="nowrap">{s.up && s.since ? span(now - s.since) : "–"}</td>
                <td className="num">{num(s.restarts)}</td>
                <td className="num">
                  {restartable(s.kind) && <Restart host={h} kind={s.kind} name={s.name} />}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}
