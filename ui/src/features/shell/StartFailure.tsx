import { errorDetail, errorTitle } from "../../i18n/errors";
import { useT } from "../../i18n/i18n";

/** StartFailure stands for the whole page when not even the first answer came. */
export function StartFailure({ error }: { error: unknown }) {
  const { t } = useT();
  return (
    <main className="start-failure" role="alert">
      <h1>{errorTitle(error)}</h1>
      <p>{errorDetail(error)}</p>
      <button type="button" onClick={() => location.reload()}>
        {t("common.retry")}
      </button>
    </main>
  );
}
