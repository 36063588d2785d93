import { Button, Textarea, TextInput } from "@mantine/core";
import { useState } from "react";
import { useCreateSilence, usePreview } from "../api/alerts";
import { dateTime, span } from "../i18n/format";
import { useT } from "../i18n/i18n";
import { localInput, nextMorning } from "../lib/time";
import { Dialog } from "./Dialog";
import { Failure } from "./faces";
import { fieldErrors } from "./formErrors";
import { Labels } from "./Labels";
import { MatcherInput } from "./MatcherInput";
import { SeverityPill } from "./Status";
import { toast } from "./toast";

type Preset = "1h" | "4h" | "morning" | "custom";
const HOUR = 3_600_000;

/** endOf is when a silence of a preset ends. */
export function endOf(p: Preset, custom: string, now: number): number {
  if (p === "1h") return now + HOUR;
  if (p === "4h") return now + 4 * HOUR;
  if (p === "morning") return nextMorning(now);
  return Date.parse(custom);
}

/** SilenceForm creates a silence, and shows beforehand what it covers. */
export function SilenceForm({ matchers: start, onClose }: { matchers: string[]; onClose: () => void }) {
  const { t } = useT();
  const [matchers, setMatchers] = useState(start);
  const [preset, setPreset] = useState<Preset>("1h");
  const [opened] = useState(() => Date.now());
  const [custom, setCustom] = useState(() => localInput(opened + 24 * HOUR));
  const [comment, setComment] = useState("");
  const preview = usePreview(matchers, matchers.length > 0);
  const create = useCreateSilence();
  const errors = fieldErrors(create.error);
  const end = endOf(preset, custom, opened);
  const ok = matchers.length > 0 && end > opened;
  const alerts = preview.data?.alerts ?? [];

  const submit = () => {
    const now = Date.now();
    create.mutate(
      {
        matchers,
        starts_at: new Date(now).toISOString(),
        ends_at: new Date(endOf(preset, custom, now)).toISOString(),
        comment: comment.trim(),
      },
      {
        onSuccess: () => {
          toast(t("silences.created"));
          onClose();
        },
      },
    );
  };
  return (
    <Dialog title={t("silences.new")} onClose={onClose} wide>
      <form
        className="stack"
        onSubmit={(e) => {
          e.preventDefault();
          if (ok) submit();
        }}
      >
        <fieldset>
          <legend>{t("silences.matchers")}</legend>
          <MatcherInput
            label={t("silences.addmatcher")}
            value={matchers}
            onChange={setMatchers}
            error={errors.matchers}
          />
        </fieldset>
        <fieldset>
          <legend>{t("silences.howlong")}</legend>
          <div className="segments" role="group">
            {(["1h", "4h", "morning", "custom"] as const).map((p) => (
              <button key={p} type="button" aria-pressed={preset === p} onClick={() => setPreset(p)}>
                {t(`silences.preset.${p}`)}
              </button>
            ))}
          </div>
          {preset === "custom" && (
            <TextInput
              type="datetime-local"
              label={t("silences.until")}
              value={custom}
              onChange={(e) => setCustom(e.currentTarget.value)}
              error={errors.ends_at}
            />
          )}
          <p className="muted">
            {end > opened
              ? t("silences.ends", { time: dateTime(end, false), span: span((end - opened) / 1000) })
              : t("silences.past")}
          </p>
        </fieldset>
        <Textarea
          label={t("silences.comment")}
          rows={2}
          value={comment}
          onChange={(e) => setComment(e.currentTarget.value)}
          error={errors.comment}
        />
        <section aria-live="polite">
          <h3>{matchers.length ? t("silences.preview", { n: alerts.length }) : t("silences.nomatchers")}</h3>
          <ul className="preview">
            {alerts.slice(0, 20).map((a) => (
              <li key={a.fingerprint}>
                <SeverityPill severity={a.labels.severity} />
                <b>{a.labels.alertname}</b>
                <Labels labels={a.labels} skip={["alertname", "severity"]} />
              </li>
            ))}
          </ul>
        </section>
        {create.isError && <Failure compact error={create.error} />}
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" disabled={!ok} loading={create.isPending}>
            {t("silences.create")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
