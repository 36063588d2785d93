import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { errorDetail, errorTitle } from "../i18n/errors";
import { useT } from "../i18n/i18n";
import { Icon, type IconName } from "./icons";

/** The faces that every view has besides its own: loading, empty, failed, stale. */

export function Skeleton({ rows = 6, height = 40 }: { rows?: number; height?: number }) {
  const { t } = useT();
  return (
    <div role="status" aria-label={t("common.loading")} className="skeletons">
      {Array.from({ length: rows }, (_, i) => (
        <div key={i} className="skeleton" style={{ height }} />
      ))}
    </div>
  );
}

export function Empty({
  icon,
  title,
  text,
  action,
}: {
  icon: IconName;
  title: string;
  text?: string;
  action?: ReactNode;
}) {
  return (
    <div className="empty">
      <span className="empty-icon">
        <Icon name={icon} size={30} />
      </span>
      <h2>{title}</h2>
      {text && <p>{text}</p>}
      {action}
    </div>
  );
}

export function Failure({
  error,
  retry,
  compact = false,
}: {
  error: unknown;
  retry?: () => void;
  compact?: boolean;
}) {
  const { t } = useT();
  const title = errorTitle(error);
  const detail = errorDetail(error);
  return (
    <div className={compact ? "failure compact" : "failure"} role="alert">
      <div>
        <strong>{title}</strong>
        {detail !== title && <p>{detail}</p>}
      </div>
      {retry && (
        <Button variant="default" size="xs" onClick={retry} leftSection={<Icon name="refresh" size={14} />}>
          {t("common.retry")}
        </Button>
      )}
    </div>
  );
}

interface QueryLike {
  isPending: boolean;
  isError: boolean;
  error: unknown;
  data: unknown;
  refetch: () => unknown;
}

/** Faces shows what a query has to say until it has data; stale data stays, with a note. */
export function Faces({
  query,
  rows,
  height,
  children,
}: {
  query: QueryLike;
  rows?: number;
  height?: number;
  children: ReactNode;
}) {
  const { t } = useT();
  if (query.data === undefined && query.isError)
    return <Failure error={query.error} retry={() => void query.refetch()} />;
  if (query.data === undefined) return <Skeleton rows={rows ?? 6} height={height ?? 40} />;
  return (
    <>
      {query.isError && (
        <div className="stale" role="status">
          {t("common.stale", { detail: errorDetail(query.error) })}
          <button type="button" className="link" onClick={() => void query.refetch()}>
            {t("common.retry")}
          </button>
        </div>
      )}
      {children}
    </>
  );
}
