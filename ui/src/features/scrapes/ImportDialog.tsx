import { Button, Textarea } from "@mantine/core";
import { useCallback, useState } from "react";
import { useImport } from "../../api/scrapes";
import { Dialog } from "../../components/Dialog";
import { Failure } from "../../components/faces";
import { Icon } from "../../components/icons";
import { toast } from "../../components/toast";
import { sentence, tMaybe, useT } from "../../i18n/i18n";

/** ImportDialog takes over a prometheus.yml: it shows first what that would change. */
export function ImportDialog({ onClose }: { onClose: () => void }) {
  const { t } = useT();
  const [config, setConfig] = useState("");
  const [files, setFiles] = useState<Record<string, string>>({});
  const preview = useImport();
  const apply = useImport();
  // What would change begins below the text: it is brought into view.
  const shown = useCallback(
    (el: HTMLElement | null) => el?.scrollIntoView({ block: "start", behavior: "smooth" }),
    [],
  );
  const ready = config.trim() !== "";
  const result = preview.data;
  const changes = (result?.changes ?? []).filter((c) => c.op !== "none");

  const pick = async (list: FileList | null) => {
    const more: Record<string, string> = {};
    for (const f of list ?? []) {
      const text = await f.text();
      // The file with the scrape jobs is the configuration; the others are what it names.
      if (/^(scrape_configs|global|rule_files):/m.test(text)) setConfig(text);
      else more[f.name] = text;
    }
    setFiles((old) => ({ ...old, ...more }));
    preview.reset();
  };
  const take = (dry: boolean) =>
    (dry ? preview : apply).mutate(
      { config, files, dry },
      {
        onSuccess: () => {
          if (dry) return;
          toast(t("scrapes.import.done", { n: changes.length }));
          onClose();
        },
      },
    );
  return (
    <Dialog title={t("scrapes.import.title")} onClose={onClose} wide>
      <form
        className="stack"
        onSubmit={(e) => {
          e.preventDefault();
          if (ready) take(!result);
        }}
      >
        <p className="muted">{t("scrapes.import.text")}</p>
        <Textarea
          label="prometheus.yml"
          rows={12}
          resize="vertical"
          spellCheck={false}
          classNames={{ input: "mono" }}
          placeholder={
            'scrape_configs:\n  - job_name: node\n    static_configs:\n      - targets: ["10.0.0.1:9100"]'
          }
          value={config}
          onChange={(e) => {
            setConfig(e.currentTarget.value);
            preview.reset();
          }}
        />
        <label className="file-pick">
          <span className="plain-button">
            <Icon name="plus" size={15} />
            {t("scrapes.import.choose")}
          </span>
          <span className="muted">{t("scrapes.import.files")}</span>
          <input
            type="file"
            multiple
            accept=".yml,.yaml,.json,text/*"
            onChange={(e) => void pick(e.target.files)}
          />
        </label>
        {Object.keys(files).length > 0 && (
          <p className="labels">
            {Object.keys(files).map((f) => (
              <span key={f} className="label mono">
                {f}
              </span>
            ))}
          </p>
        )}
        {(preview.error ?? apply.error) && <Failure compact error={preview.error ?? apply.error} />}
        {result && (
          <section ref={shown} aria-live="polite" className="stack-s">
            <h3>{t("scrapes.import.changes", { n: changes.length })}</h3>
            <ul className="preview">
              {(result.changes ?? []).map((c) => (
                <li key={`${c.kind}/${c.name}`}>
                  <span className="type">{t(`scrapes.import.${c.op}`)}</span>
                  <span className="muted">{tMaybe(`record.${c.kind}`) ?? c.kind}</span>
                  <b>{c.name}</b>
                </li>
              ))}
            </ul>
            {(result.notes ?? []).length > 0 && (
              <>
                <h3>{t("scrapes.import.notes")}</h3>
                <ul className="notes-list">
                  {(result.notes ?? []).map((n) => (
                    <li key={n}>{sentence(n)}</li>
                  ))}
                </ul>
              </>
            )}
          </section>
        )}
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button
            type="submit"
            disabled={!ready || (result !== undefined && !changes.length)}
            loading={preview.isPending || apply.isPending}
          >
            {t(result ? "scrapes.import.apply" : "scrapes.import.preview")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
