import { Button } from "@mantine/core";
import { useCA, useMoveCA } from "../../api/cluster";
import { confirm } from "../../components/confirm";
import { Faces } from "../../components/faces";
import { StatusIcon } from "../../components/Status";
import { toast, toastError } from "../../components/toast";
import { dayOnly } from "../../i18n/format";
import { useT } from "../../i18n/i18n";

/** Authority shows the roots that certificates are signed by, and changes them. */
export function Authority() {
  const { t } = useT();
  const query = useCA(true);
  const move = useMoveCA();
  const ca = query.data;
  const run = async (verb: "rotate" | "finish") => {
    const yes = await confirm({
      title: t(`ca.${verb}.title`),
      text: t(`ca.${verb}.text`),
      action: t(`ca.${verb}`),
      danger: verb === "finish",
    });
    if (yes) move.mutate(verb, { onSuccess: () => toast(t(`ca.${verb}.done`)), onError: toastError });
  };
  return (
    <section className="card" aria-labelledby="sv-ca">
      <h2 id="sv-ca">{t("ca.title")}</h2>
      <p className="muted">{t("ca.intro")}</p>
      <Faces query={query} rows={2}>
        {ca && (
          <>
            <p className="row">
              <StatusIcon status={ca.state === "stable" || ca.ready ? "up" : "maintenance"} />
              {t(ca.state === "stable" ? "ca.stable" : ca.ready ? "ca.ready" : "ca.rotating")}
            </p>
            {!!ca.waiting?.length && (
              <p className="muted">{t("ca.waiting", { names: ca.waiting.join(", ") })}</p>
            )}
            <ul className="lines">
              {ca.roots.map((r) => (
                <li key={r.key_hash}>
                  <div className="record-main">
                    <span className="break">{r.subject}</span>
                    {r.current && <span className="type">{t("ca.signs")}</span>}
                    <small className="muted">{t("ca.until", { time: dayOnly(r.not_after) })}</small>
                    <code className="break">{r.key_hash}</code>
                  </div>
                </li>
              ))}
            </ul>
            <div className="actions">
              {ca.state === "stable" ? (
                <Button variant="default" loading={move.isPending} onClick={() => void run("rotate")}>
                  {t("ca.rotate")}
                </Button>
              ) : (
                <Button
                  variant="default"
                  disabled={!ca.ready}
                  loading={move.isPending}
                  onClick={() => void run("finish")}
                >
                  {t("ca.finish")}
                </Button>
              )}
            </div>
          </>
        )}
      </Faces>
    </section>
  );
}
