import { Button } from "@mantine/core";
import { useLocation } from "wouter";
import { useNodeAction, useRemoveNode, type Node } from "../../api/cluster";
import { confirm } from "../../components/confirm";
import { Icon } from "../../components/icons";
import { toast, toastError } from "../../components/toast";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";

/** NodeActions are what an administrator may do to a node. */
export function NodeActions({ n }: { n: Node }) {
  const { t } = useT();
  const admin = useCan("admin");
  const [, go] = useLocation();
  const act = useNodeAction();
  const remove = useRemoveNode();
  if (!admin || n.revoked) return null;
  const alive = n.state === "alive" || n.state === "suspect";
  const run = async (
    verb: "drain" | "promote" | "leader",
    done: string,
    ask?: { title: string; text: string; action: string },
  ) => {
    if (ask && !(await confirm({ ...ask, danger: false }))) return;
    act.mutate(
      { id: n.id, verb, ...(verb === "drain" ? { body: { draining: !n.draining } } : {}) },
      { onSuccess: () => toast(done), onError: toastError },
    );
  };
  const drop = async () => {
    const yes = await confirm({
      title: t("servers.remove.title", { name: n.name }),
      text: t(alive ? "servers.remove.alive" : "servers.remove.text"),
      action: t("servers.remove"),
    });
    if (!yes) return;
    remove.mutate(
      { id: n.id, force: alive },
      {
        onSuccess: () => {
          toast(t("servers.remove.done", { name: n.name }));
          go("/servers");
        },
        onError: toastError,
      },
    );
  };
  return (
    <>
      {n.role !== "witness" && (
        <Button
          variant="default"
          loading={act.isPending && act.variables.verb === "drain"}
          leftSection={<Icon name={n.draining ? "play" : "pause"} size={16} />}
          onClick={() =>
            void run(
              "drain",
              t(n.draining ? "servers.undrain.done" : "servers.drain.done", { name: n.name }),
              n.draining
                ? undefined
                : {
                    title: t("servers.drain.title", { name: n.name }),
                    text: t("servers.drain.text"),
                    action: t("servers.drain"),
                  },
            )
          }
        >
          {t(n.draining ? "servers.undrain" : "servers.drain")}
        </Button>
      )}
      {n.control === "learner" && (
        <Button
          variant="default"
          loading={act.isPending && act.variables.verb === "promote"}
          leftSection={<Icon name="up" size={16} />}
          onClick={() =>
            void run("promote", t("servers.promote.done", { name: n.name }), {
              title: t("servers.promote.title", { name: n.name }),
              text: t("servers.promote.text"),
              action: t("servers.promote"),
            })
          }
        >
          {t("servers.promote")}
        </Button>
      )}
      {n.control === "voter" && n.state === "alive" && (
        <Button
          variant="default"
          loading={act.isPending && act.variables.verb === "leader"}
          leftSection={<Icon name="key" size={16} />}
          onClick={() =>
            void run("leader", t("servers.leader.done", { name: n.name }), {
              title: t("servers.leader.title", { name: n.name }),
              text: t("servers.leader.text"),
              action: t("servers.leader"),
            })
          }
        >
          {t("servers.leader")}
        </Button>
      )}
      <Button
        variant="default"
        className="danger"
        loading={remove.isPending}
        leftSection={<Icon name="trash" size={16} />}
        onClick={() => void drop()}
      >
        {t("servers.remove")}
      </Button>
    </>
  );
}
