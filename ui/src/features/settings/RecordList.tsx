import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { useRemove, useResource, type ResourceName, type ResourceTypes } from "../../api/resources";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon, type IconName } from "../../components/icons";
import { toast, toastError } from "../../components/toast";
import { useT, type Key } from "../../i18n/i18n";
import { useCan } from "../../session";

interface Props<N extends ResourceName> {
  name: N;
  icon: IconName;
  intro: Key;
  empty: Key;
  add: Key;
  row: (r: ResourceTypes[N]) => ReactNode;
  onAdd: () => void;
  onEdit?: (r: ResourceTypes[N]) => void;
  more?: (r: ResourceTypes[N]) => ReactNode;
}

/** RecordList is the common face of the small resources: a list with edit, delete and add. */
export function RecordList<N extends ResourceName>({
  name,
  icon,
  intro,
  empty,
  add,
  row,
  onAdd,
  onEdit,
  more,
}: Props<N>) {
  const { t } = useT();
  const editor = useCan("editor");
  const query = useResource(name);
  const remove = useRemove(name);
  const list = query.data ?? [];
  const drop = async (r: ResourceTypes[N]) => {
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
  const button = editor && (
    <Button leftSection={<Icon name="plus" size={16} />} onClick={onAdd}>
      {t(add)}
    </Button>
  );
  return (
    <>
      <div className="toolbar">
        <p className="muted">{t(intro)}</p>
        {list.length > 0 && button}
      </div>
      <Faces query={query} rows={4} height={56}>
        {list.length ? (
          <ul className="records">
            {list.map((r) => (
              <li key={r.id} className="card">
                <div className="record-main">{row(r)}</div>
                {editor && (
                  <div className="record-actions">
                    {more?.(r)}
                    {onEdit && (
                      <button
                        type="button"
                        className="icon-button"
                        aria-label={t("settings.edit", { name: r.name })}
                        onClick={() => onEdit(r)}
                      >
                        <Icon name="edit" size={16} />
                      </button>
                    )}
                    <button
                      type="button"
                      className="icon-button danger"
                      aria-label={t("settings.delete", { name: r.name })}
                      onClick={() => void drop(r)}
                    >
                      <Icon name="trash" size={16} />
                    </button>
                  </div>
                )}
              </li>
            ))}
          </ul>
        ) : (
          <Empty icon={icon} title={t(empty)} action={button} />
        )}
      </Faces>
    </>
  );
}
