import { useAllowChecks, type HostDetail } from "../../api/hosts";
import { confirm } from "../../components/confirm";
import { toast, toastError } from "../../components/toast";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";

/** stand is how it is about checks: the servers must allow them, and the host's own file must offer them. */
export const stand = (h: Pick<HostDetail, "checks_allowed" | "checks_offered">) =>
  h.checks_allowed ? (h.checks_offered ? "yes" : "unoffered") : h.checks_offered ? "offered" : "no";

/** RunsChecks says whether a host runs checks; administrators let it, and take it back. */
export function RunsChecks({ h }: { h: HostDetail }) {
  const { t } = useT();
  const admin = useCan("admin");
  const save = useAllowChecks();
  const state = stand(h);
  const change = async (checks: boolean) => {
    const what = checks ? "allow" : "forbid";
    const yes = await confirm({
      title: t(`hosts.checks.${what}.title`, { name: h.name }),
      text: checks ? t("hosts.checks.allow.text", { region: h.region }) : t("hosts.checks.forbid.text"),
      action: t(`hosts.checks.${what}`),
      danger: !checks,
    });
    if (!yes) return;
    save.mutate(
      { id: h.id, checks },
      {
        onSuccess: () =>
          toast(t(checks ? "hosts.checks.allowed" : "hosts.checks.forbidden", { name: h.name })),
        onError: toastError,
      },
    );
  };
  return (
    <>
      <span data-testid="runs-checks">{t(`hosts.checks.${state}`)}</span>
      {admin && state !== "no" && (
        <button
          type="button"
          className="link"
          disabled={save.isPending}
          onClick={() => void change(state === "offered")}
        >
          {t(state === "offered" ? "hosts.checks.allow" : "hosts.checks.forbid")}
        </button>
      )}
    </>
  );
}
