import type { Uptime } from "../../api/types";
import { Failure } from "../../components/faces";
import { percent, span } from "../../i18n/format";
import { useT, type Key } from "../../i18n/i18n";

const WINDOWS = ["24h", "7d", "30d", "90d", "1y"];

interface Props {
  query: { data: Uptime | undefined; isError: boolean; error: unknown; refetch: () => unknown };
}

export function UptimeCards({ query }: Props) {
  const { t } = useT();
  if (query.isError && !query.data)
    return <Failure compact error={query.error} retry={() => void query.refetch()} />;
  return (
    <dl className="uptimes">
      {WINDOWS.map((w) => {
        const u = query.data?.windows[w];
        return (
          <div key={w}>
            <dt>{t(`range.${w}` as Key)}</dt>
            <dd>
              <b>{percent(u?.uptime)}</b>
              {!!u && (
                <small className="muted">
                  {u.outages
                    ? t("check.outages", { n: u.outages, span: span(u.down) })
                    : t("check.nooutages")}
                </small>
              )}
            </dd>
          </div>
        );
      })}
    </dl>
  );
}
