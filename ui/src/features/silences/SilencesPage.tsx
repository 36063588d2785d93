import { Button } from "@mantine/core";
import { useExpireSilence, useSilences } from "../../api/alerts";
import { confirm } from "../../components/confirm";
import { Empty, Faces } from "../../components/faces";
import { Icon } from "../../components/icons";
import { useKeys } from "../../components/keys";
import { Page } from "../../components/Page";
import { SilenceForm } from "../../components/SilenceForm";
import { toast, toastError } from "../../components/toast";
import { useUrl } from "../../components/useParams";
import { dateTime, span, useNow } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { useCan } from "../../session";

const STATES = ["active", "pending", "expired"] as const;

export default function SilencesPage() {
  const { t } = useT();
  const now = useNow();
  const { params, get, set } = useUrl();
  const editor = useCan("editor");
  const query = useSilences();
  const expire = useExpireSilence();
  const state = STATES.find((s) => s === get("state")) ?? "active";
  const all = query.data?.items ?? [];
  const list = all
    .filter((s) => s.status === state)
    .sort((a, b) => a.ends_at.localeCompare(b.ends_at) * (state === "expired" ? -1 : 1));
  const open = () => set({ new: "1" });
  useKeys({ n: () => editor && open() });
  const end = async (id: string, what: string) => {
    const yes = await confirm({
      title: t("silences.expire.title"),
      text: t("silences.expire.text", { what }),
      action: t("silences.expire"),
    });
    if (yes) expire.mutate(id, { onSuccess: () => toast(t("silences.expired")), onError: toastError });
  };
  return (
    <Page
      title={t("nav.silences")}
      actions={
        editor && (
          <Button leftSection={<Icon name="plus" size={16} />} onClick={open}>
            {t("silences.new")}
          </Button>
        )
      }
    >
      <div className="filters">
        <div className="segments" role="group" aria-label={t("silences.state")}>
          {STATES.map((s) => (
            <button
              key={s}
              type="button"
              aria-pressed={state === s}
              onClick={() => set({ state: s === "active" ? "" : s })}
            >
              {t(`silences.state.${s}`)} <b>{all.filter((x) => x.status === s).length}</b>
            </button>
          ))}
        </div>
      </div>
      <Faces query={query} rows={4} height={64}>
        {list.length ? (
          <ul className="silences">
            {list.map((s) => (
              <li key={s.id} className="card">
                <div>
                  <span className="labels">
                    {s.matchers.map((m) => (
                      <code key={m} className="label">
                        {m}
                      </code>
                    ))}
                  </span>
                  {s.comment && <p>{s.comment}</p>}
                  <small className="muted">
                    {t("silences.span", {
                      from: dateTime(s.starts_at, false),
                      to: dateTime(s.ends_at, false),
                    })}
                    {s.status === "active" &&
                      ` · ${t("silences.left", { span: span((Date.parse(s.ends_at) - now) / 1000) })}`}
                    {s.created_by && ` · ${s.created_by}`}
                  </small>
                </div>
                {editor && s.status !== "expired" && (
                  <Button size="xs" variant="default" onClick={() => void end(s.id, s.matchers.join(", "))}>
                    {t("silences.expire")}
                  </Button>
                )}
              </li>
            ))}
          </ul>
        ) : (
          <Empty
            icon="mute"
            title={t(`silences.none.${state}`)}
            text={t("silences.none.text")}
            action={editor && state === "active" && <Button onClick={open}>{t("silences.new")}</Button>}
          />
        )}
      </Faces>
      {get("new") && editor && (
        <SilenceForm matchers={params.getAll("m")} onClose={() => set({ new: "", m: [] })} />
      )}
    </Page>
  );
}
