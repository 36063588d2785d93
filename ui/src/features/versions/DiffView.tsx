import { useMemo } from "react";
import { useT } from "../../i18n/i18n";
import { diffLines, hunks, tally } from "../../lib/diff";

const SIGNS = { same: " ", added: "+", removed: "−" } as const;

/** DiffView shows what changed between two texts; far from changes it is short. */
export function DiffView({ before, after }: { before: string; after: string }) {
  const { t } = useT();
  const lines = useMemo(() => diffLines(before, after), [before, after]);
  const { added, removed } = tally(lines);
  if (!added && !removed) return <p className="muted">{t("versions.same")}</p>;
  return (
    <>
      <p className="muted">{t("versions.tally", { added, removed })}</p>
      {/* A long comparison scrolls, and by keyboard too. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="diff" role="region" aria-label={t("versions.diff")} tabIndex={0}>
        {hunks(lines).map((h, i) =>
          "skipped" in h ? (
            <div key={i} className="diff-skip">
              {t("versions.skipped", { n: h.skipped })}
            </div>
          ) : (
            h.lines.map((l, j) => (
              <div key={`${i}/${j}`} className={`diff-${l.kind}`}>
                <span className="diff-no" aria-hidden="true">
                  {l.old ?? ""}
                </span>
                <span className="diff-no" aria-hidden="true">
                  {l.now ?? ""}
                </span>
                <code>
                  {l.kind === "same" ? (
                    <span aria-hidden="true">{SIGNS.same}</span>
                  ) : (
                    <>
                      <span aria-hidden="true">{SIGNS[l.kind]}</span>
                      <span className="sr">{t(`versions.${l.kind}`)}</span>
                    </>
                  )}
                  {` ${l.text}`}
                </code>
              </div>
            ))
          ),
        )}
      </div>
    </>
  );
}
