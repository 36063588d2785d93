import { Link } from "wouter";
import type { Check } from "../../api/types";
import { StatusIcon } from "../../components/Status";
import { ago, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";

/** Worst lists the checks that need somebody now. */
export function Worst({ checks }: { checks: Check[] }) {
  const { t } = useT();
  const now = useNow();
  if (!checks.length)
    return (
      <p className="row muted">
        <StatusIcon status="up" />
        {t("overview.noworst")}
      </p>
    );
  return (
    <ul className="worst">
      {checks.map((c) => (
        <li key={c.id}>
          <Link href={`/checks/${c.id}`}>
            <StatusIcon status={c.state?.status ?? "pending"} />
            <span className="worst-main">
              <b>{c.name}</b>
              <small className="muted">{sentence(c.state?.message ?? "")}</small>
            </span>
            <small className="muted nowrap">
              <span className="sr">{t(`status.${c.state?.status ?? "pending"}`)}</span>
              {c.state ? ago(c.state.since, now) : ""}
            </small>
          </Link>
        </li>
      ))}
    </ul>
  );
}
