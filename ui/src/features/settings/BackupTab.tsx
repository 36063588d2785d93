import { Button } from "@mantine/core";
import { useState } from "react";
import { useBackups, useMakeBackup, type BackupStatus } from "../../api/backup";
import { Empty, Faces, Failure } from "../../components/faces";
import { Icon } from "../../components/icons";
import { OnceDialog } from "../../components/OnceDialog";
import { ago, dateTime, num, useNow } from "../../i18n/format";
import { sentence, useT } from "../../i18n/i18n";
import { size } from "../servers/view";

const CONFIG = `backup:
  bucket: /etc/panoptes/bucket.yml`;
const BUCKET = `type: FILESYSTEM
config: {directory: /mnt/backups}`;

/** BackupTab makes backups of this server and lists those that there are. */
export function BackupTab() {
  const { t } = useT();
  const query = useBackups();
  const make = useMakeBackup();
  const [key, setKey] = useState("");
  const s = query.data;
  return (
    <>
      <div className="toolbar">
        <p className="muted">{t("backup.intro")}</p>
        {s?.configured && (
          <Button
            loading={make.isPending}
            leftSection={<Icon name="plus" size={16} />}
            onClick={() => make.mutate(undefined, { onSuccess: (b) => setKey(b.recovery_key ?? "") })}
          >
            {t("backup.make")}
          </Button>
        )}
      </div>
      <div aria-live="polite">
        {make.isPending && <p className="muted">{t("backup.making")}</p>}
        {make.isError && <Failure compact error={make.error} />}
        {make.data && !make.isPending && (
          <p className="done">
            {t("backup.made", {
              id: make.data.id,
              n: make.data.files,
              size: size(make.data.bytes),
              sent: size(make.data.uploaded),
            })}
          </p>
        )}
      </div>
      <Faces query={query} rows={4} height={48}>
        {s && (
          <>
            {s.quiet && <p className="stale">{t("backup.quiet", { reason: sentence(s.quiet) })}</p>}
            {s.error && <p className="stale">{sentence(s.error)}</p>}
            {s.configured ? <List status={s} /> : <NotConfigured />}
          </>
        )}
      </Faces>
      {key && (
        <OnceDialog
          title={t("backup.key")}
          text={t("backup.key.text")}
          secret={key}
          testId="recovery-key"
          onClose={() => setKey("")}
        />
      )}
    </>
  );
}

function NotConfigured() {
  const { t } = useT();
  return (
    <section className="card" aria-labelledby="backup-setup">
      <h2 id="backup-setup">{t("backup.setup")}</h2>
      <p>{t("backup.setup.config")}</p>
      <pre>{CONFIG}</pre>
      <p>{t("backup.setup.bucket")}</p>
      <pre>{BUCKET}</pre>
    </section>
  );
}

function List({ status: s }: { status: BackupStatus }) {
  const { t } = useT();
  const now = useNow();
  const list = s.backups ?? [];
  return (
    <>
      {s.upload && (
        <section className="card" aria-labelledby="backup-upload">
          <h2 id="backup-upload">{t("backup.upload")}</h2>
          <p>
            {t("backup.upload.state", { uploaded: s.upload.uploaded, pending: s.upload.pending })}
            {s.upload.last_success && (
              <span className="muted">
                {" "}
                {t("backup.upload.last", { ago: ago(s.upload.last_success, now) })}
              </span>
            )}
          </p>
          {s.upload.error && <p className="stale">{sentence(s.upload.error)}</p>}
        </section>
      )}
      {list.length ? (
        <section className="card" aria-labelledby="backup-list">
          <h2 id="backup-list">{t("backup.list")}</h2>
          {/* A wide table scrolls, and by keyboard too. */}
          {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
          <div className="scroll-x" role="group" aria-label={t("backup.list")} tabIndex={0}>
            <table className="plain">
              <thead>
                <tr>
                  <th scope="col">{t("backup.time")}</th>
                  <th scope="col">ID</th>
                  <th scope="col">{t("about.server")}</th>
                  <th scope="col" className="num">
                    {t("backup.files")}
                  </th>
                  <th scope="col" className="num">
                    {t("backup.size")}
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map((b) => (
                  <tr key={b.id}>
                    <td className="nowrap" title={ago(b.time, now)}>
                      {dateTime(b.time)}
                    </td>
                    <td className="mono">{b.id}</td>
                    <td>{b.node}</td>
                    <td className="num">{num(b.files)}</td>
                    <td className="num">{size(b.bytes)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <p className="muted">{t("backup.verify")}</p>
        </section>
      ) : (
        <Empty icon="lock" title={t("backup.none")} text={t("backup.none.text")} />
      )}
    </>
  );
}
