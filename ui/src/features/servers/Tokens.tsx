import { useRevokeToken, useTokens, type Node, type Token } from "../../api/cluster";
import { confirm } from "../../components/confirm";
import { Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { toast, toastError } from "../../components/toast";
import { ago, dateTime, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";

/** Tokens lists what lets machines join, and takes it back. */
export function Tokens({ nodes }: { nodes: Node[] }) {
  const { t } = useT();
  const now = useNow();
  const query = useTokens(true);
  const revoke = useRevokeToken();
  const list = query.data ?? [];
  const name = (id: string) => nodes.find((n) => n.id === id)?.name ?? id;
  const drop = async (k: Token) => {
    const yes = await confirm({
      title: t("tokens.revoke.title", { id: k.id }),
      text: t("tokens.revoke.text"),
      action: t("tokens.revoke"),
    });
    if (yes) revoke.mutate(k.id, { onSuccess: () => toast(t("tokens.revoked")), onError: toastError });
  };
  return (
    <section className="card" aria-labelledby="sv-tokens">
      <h2 id="sv-tokens">{t("tokens.title")}</h2>
      <p className="muted">{t("tokens.intro")}</p>
      <Faces query={query} rows={2}>
        {list.length ? (
          <ul className="lines">
            {list.map((k) => (
              <li key={k.id}>
                <div className="record-main">
                  <span className="type">{t(`servers.role.${k.role}`)}</span>
                  <code className="break">{k.id}</code>
                  {k.region && <span>{k.region}</span>}
                  {k.checks && <span className="type">{t("tokens.checks")}</span>}
                  <small className="muted" title={dateTime(k.expires)}>
                    {k.expired ? t("tokens.expired") : t("tokens.expires", { time: ago(k.expires, now) })}
                  </small>
                  <small className="muted">{t("tokens.left", { n: k.uses })}</small>
                  {!!k.used?.length && (
                    <small className="muted">
                      {t("tokens.used", { names: k.used.map(name).join(", ") })}
                    </small>
                  )}
                </div>
                <button
                  type="button"
                  className="icon-button danger"
                  aria-label={t("tokens.revoke.title", { id: k.id })}
                  onClick={() => void drop(k)}
                >
                  <Icon name="trash" size={16} />
                </button>
              </li>
            ))}
          </ul>
        ) : (
          <p className="muted">{t("tokens.none")}</p>
        )}
      </Faces>
    </section>
  );
}
