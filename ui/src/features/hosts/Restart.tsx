import { Button } from "@mantine/core";
import { useHostAction, type HostAction } from "../../api/hosts";
import { confirm } from "../../components/confirm";
import { Icon } from "../../components/icons";
import { toast, toastError } from "../../components/toast";
import { sentence, useT } from "../../i18n/i18n";
import { useCan } from "../../session";

interface Props {
  host: { id: string; name: string; actions?: boolean };
  kind: HostAction["kind"];
  name: string;
}

/** Restart asks the agent to restart a service, where its host allows that. */
export function Restart({ host, kind, name }: Props) {
  const { t } = useT();
  const editor = useCan("editor");
  const act = useHostAction(host.id);
  if (!host.actions || !editor) return null;
  const go = async () => {
    const yes = await confirm({
      title: t("hosts.restart.title", { name }),
      text: t("hosts.restart.text", { name, host: host.name }),
      action: t("hosts.restart"),
    });
    if (!yes) return;
    act.mutate(
      { action: "restart", kind, name },
      {
        onSuccess: (a) =>
          toast(
            a.result === "done"
              ? t("hosts.restart.done", { name })
              : t(`hosts.restart.${a.result}`, { name, reason: sentence(a.message ?? "") }),
            a.result !== "done",
          ),
        onError: toastError,
      },
    );
  };
  return (
    <Button
      size="compact-xs"
      variant="default"
      loading={act.isPending}
      leftSection={<Icon name="refresh" size={12} />}
      aria-label={t("hosts.restart.one", { name })}
      onClick={() => void go()}
    >
      {t("hosts.restart")}
    </Button>
  );
}
