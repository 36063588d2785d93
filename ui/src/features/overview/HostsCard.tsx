import { Link } from "wouter";
import { HOST_STATUSES, useGlance } from "../../api/hosts";
import { Icon } from "../../components/icons";
import { StatusIcon } from "../../components/Status";
import { num } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { Meter } from "../hosts/Meter";
import { face } from "../hosts/view";
import { hostMessage } from "../hosts/words";
import "../../styles/hosts.css";

const AT_MOST = 5;

/** HostsCard shows how the hosts are, and the ones to look at first: in trouble, else the busiest. */
export default function HostsCard({ alone = false }: { alone?: boolean }) {
  const { t } = useT();
  const trouble = useGlance("status", AT_MOST);
  const first = trouble.data;
  const counts = first?.counts ?? {};
  const calm = !!first && !counts.down && !counts.unknown;
  const busy = useGlance("-cpu", AT_MOST, calm && (first.total ?? 0) > 0);
  if (!first || (alone && !first.total)) return null;
  const list = (calm ? busy.data?.items : first.items) ?? [];
  return (
    <section className="card hosts-card" aria-labelledby="ov-hosts">
      <h2 id="ov-hosts">
        {t("nav.hosts")}
        <Link href={first.total ? "/hosts" : "/hosts?new=1"} className="more">
          {first.total ? t("overview.hosts.all", { n: first.total }) : t("hosts.add")}
        </Link>
      </h2>
      {!first.total && <p className="muted">{t("hosts.none.text")}</p>}
      {!!first.total && (
        <p className="host-counts">
          {HOST_STATUSES.filter((s) => counts[s]).map((s) => (
            <Link key={s} href={`/hosts?status=${s}`} className="row">
              <StatusIcon status={face(s)} size={15} />
              <b>{num(counts[s] ?? 0)}</b> {t(`hosts.status.${s}`)}
            </Link>
          ))}
        </p>
      )}
      <ul className="worst glance">
        {list.map((h) => (
          <li key={h.id}>
            <Link href={`/hosts/${encodeURIComponent(h.id)}`}>
              <StatusIcon status={face(h.status)} />
              <span className="worst-main">
                <b>{h.name}</b>
                {h.status !== "online" && <small className="muted">{hostMessage(h)}</small>}
              </span>
              {h.status === "online" && h.usage && (
                <span className="glance-meters">
                  {(["cpu", "memory", "disk"] as const).map((r) => (
                    <span key={r}>
                      <small className="muted" aria-hidden="true">
                        {t(`hosts.${r}`)}
                      </small>
                      <Meter what={r} value={h.usage?.[r]} label={t(`hosts.${r}`)} />
                    </span>
                  ))}
                </span>
              )}
              <Icon name="right" size={13} />
            </Link>
          </li>
        ))}
      </ul>
    </section>
  );
}
