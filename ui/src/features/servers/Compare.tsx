import { Button } from "@mantine/core";
import { useCompare } from "../../api/cluster";
import { Failure } from "../../components/faces";
import { Icon } from "../../components/icons";
import { StatusIcon } from "../../components/Status";
import { seconds } from "../../i18n/format";
import { useT } from "../../i18n/i18n";

/** Compare lets the servers compare their copies now, and says what came of it. */
export function Compare() {
  const { t } = useT();
  const compare = useCompare();
  const r = compare.data;
  return (
    <section className="card" aria-labelledby="sv-compare">
      <h2 id="sv-compare">{t("compare.title")}</h2>
      <p className="muted">{t("compare.intro")}</p>
      <div aria-live="polite">
        {compare.isError && <Failure compact error={compare.error} />}
        {r && (
          <p className="row" data-testid="compared">
            <StatusIcon
              status={r.mismatches === 0 ? "up" : r.repaired >= r.mismatches ? "degraded" : "down"}
            />
            {r.mismatches === 0
              ? t("compare.same", { n: r.windows, took: seconds(r.seconds) })
              : t("compare.differ", {
                  n: r.windows,
                  differ: r.mismatches,
                  repaired: r.repaired,
                  took: seconds(r.seconds),
                })}
          </p>
        )}
        {compare.isPending && <p className="muted">{t("compare.running")}</p>}
      </div>
      <div className="actions">
        <Button
          variant="default"
          loading={compare.isPending}
          leftSection={<Icon name="refresh" size={16} />}
          onClick={() => compare.mutate()}
        >
          {t("compare.now")}
        </Button>
      </div>
    </section>
  );
}
