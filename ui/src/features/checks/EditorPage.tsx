import { useMemo } from "react";
import { useParams } from "wouter";
import { useCheck, useCheckTypes } from "../../api/checks";
import type { JsonObject } from "../../api/types";
import { Faces, Skeleton } from "../../components/faces";
import { Page } from "../../components/Page";
import { useUrl } from "../../components/useParams";
import { pick, useT } from "../../i18n/i18n";
import { specOf } from "../../lib/fields";
import { CheckForm } from "./CheckForm";
import { Gallery } from "./Gallery";

/** EditorPage: a new check (?type=), a copy (?from=) or an existing one (/checks/:id/edit). */
export default function EditorPage() {
  const { t } = useT();
  const { id } = useParams<{ id?: string }>();
  const { get, set } = useUrl();
  const from = id ?? get("from");
  const types = useCheckTypes();
  const source = useCheck(from || undefined);
  const type = source.data?.type ?? get("type");
  const kind = types.data?.find((k) => k.name === type);
  const start = useMemo<JsonObject>(() => {
    if (!source.data) return { name: "", type, ...(type === "push" ? {} : { target: "" }) };
    const spec = specOf(source.data);
    return id ? spec : { ...spec, name: `${source.data.name} ${t("check.copy")}` };
    // Only another check begins a new draft; fresh states of the same one must not.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [source.data?.id, source.data?.revision, type, id]);
  const title = id ? t("editor.edit", { name: source.data?.name ?? "" }) : t("checks.new");
  return (
    <Page
      title={title}
      back={
        id ? { href: `/checks/${id}`, label: t("common.back") } : { href: "/checks", label: t("nav.checks") }
      }
    >
      <Faces query={from ? source : types} rows={6}>
        <Faces query={types} rows={6}>
          {from && !source.isFetchedAfterMount ? (
            // What the cache holds may be older than what would be overwritten.
            <Skeleton rows={6} />
          ) : kind ? (
            <>
              {!id && !from && (
                <p className="picked-kind">
                  {t("editor.kind", { kind: pick(kind.label, kind.name) })}{" "}
                  <button type="button" className="link" onClick={() => set({ type: "" }, true)}>
                    {t("editor.otherkind")}
                  </button>
                </p>
              )}
              <CheckForm
                key={`${from}/${type}`}
                id={id}
                revision={source.data?.revision}
                start={start}
                kind={kind}
              />
            </>
          ) : (
            <Gallery types={types.data ?? []} onPick={(name) => set({ type: name }, true)} />
          )}
        </Faces>
      </Faces>
    </Page>
  );
}
