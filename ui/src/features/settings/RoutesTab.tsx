import { Button } from "@mantine/core";
import { useState } from "react";
import { useRemove, useResource } from "../../api/resources";
import type { JsonObject, Route } from "../../api/types";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { toast, toastError } from "../../components/toast";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";
import { field } from "./field";
import { RecordDialog } from "./RecordDialog";
import { routeTree, type RouteNode } from "./routeTree";

/** RoutesTab shows the routing tree the way an alert walks it. */
export function RoutesTab() {
  const { t } = useT();
  const editor = useCan("editor");
  const query = useResource("routes");
  const receivers = useResource("receivers").data ?? [];
  const [edit, setEdit] = useState<{ record?: Route; start?: JsonObject } | null>(null);
  const routes = query.data ?? [];
  const tree = routeTree(routes);
  return (
    <>
      <div className="toolbar">
        <p className="muted">{t("routes.intro")}</p>
      </div>
      <Faces query={query} rows={4} height={64}>
        {tree.length ? (
          <ul className="route-tree">
            {tree.map((n) => (
              <Node
                key={n.route.id}
                node={n}
                root
                onEdit={editor ? (record) => setEdit({ record }) : undefined}
                onAdd={editor ? (r) => setEdit({ start: { name: "", parent: r.name } }) : undefined}
              />
            ))}
          </ul>
        ) : (
          <Empty
            icon="route"
            title={t("routes.none")}
            action={
              editor && (
                <Button onClick={() => setEdit({ start: { name: "default", parent: "" } })}>
                  {t("routes.newroot")}
                </Button>
              )
            }
          />
        )}
      </Faces>
      {edit && (
        <RecordDialog
          resource="routes"
          title={edit.record ? edit.record.name : t("routes.new")}
          {...(edit.record ? { record: edit.record } : {})}
          {...(edit.start ? { start: edit.start } : {})}
          onClose={() => setEdit(null)}
          fields={[
            field("name", "string", t("checks.name"), { required: true }),
            field("receiver", "enum", t("routes.receiver"), { enum: receivers.map((r) => r.name) }),
            field("matchers", "list", t("routes.matchers"), { help: t("routes.matchers.help") }),
            field("group_by", "list", t("routes.groupby"), { help: t("routes.groupby.help") }),
            field("group_wait", "duration", t("routes.groupwait"), { default: "30s" }),
            field("group_interval", "duration", t("routes.groupinterval"), { default: "5m" }),
            field("repeat_interval", "duration", t("routes.repeat"), { default: "4h" }),
            field("position", "int", t("routes.position"), { default: "0" }),
            field("continue", "bool", t("routes.continue")),
          ]}
        />
      )}
    </>
  );
}

interface NodeProps {
  node: RouteNode;
  root?: boolean;
  onEdit: ((r: Route) => void) | undefined;
  onAdd: ((r: Route) => void) | undefined;
}

function Node({ node, root = false, onEdit, onAdd }: NodeProps) {
  const { t } = useT();
  const remove = useRemove("routes");
  const r = node.route;
  const drop = async () => {
    const yes = await confirm({
      title: t("settings.delete.title", { name: r.name }),
      text: t("settings.delete.text"),
      action: t("common.delete"),
    });
    if (yes)
      remove.mutate(r.id, {
        onSuccess: () => toast(t("settings.deleted", { name: r.name })),
        onError: toastError,
      });
  };
  return (
    <li>
      <div className="card route">
        <div className="record-main">
          <b>{r.name}</b>
          <span className="labels">
            {(r.matchers ?? []).map((m) => (
              <code key={m} className="label">
                {m}
              </code>
            ))}
            {!r.matchers?.length && (
              <span className="muted">{t(root ? "routes.everything" : "routes.all")}</span>
            )}
          </span>
          <span className="row">
            <Icon name="send" size={14} />
            {node.receiver || t("routes.noreceiver")}
            {r.continue && <span className="type">{t("routes.continues")}</span>}
          </span>
        </div>
        {onEdit && onAdd && (
          <div className="record-actions">
            <Button size="xs" variant="default" onClick={() => onAdd(r)}>
              {t("routes.add")}
            </Button>
            <button
              type="button"
              className="icon-button"
              aria-label={t("settings.edit", { name: r.name })}
              onClick={() => onEdit(r)}
            >
              <Icon name="edit" size={16} />
            </button>
            {!root && (
              <button
                type="button"
                className="icon-button danger"
                aria-label={t("settings.delete", { name: r.name })}
                onClick={() => void drop()}
              >
                <Icon name="trash" size={16} />
              </button>
            )}
          </div>
        )}
      </div>
      {node.children.length > 0 && (
        <ul>
          {node.children.map((c) => (
            <Node key={c.route.id} node={c} onEdit={onEdit} onAdd={onAdd} />
          ))}
        </ul>
      )}
    </li>
  );
}
