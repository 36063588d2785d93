import { Dialog } from "../../components/Dialog";
import { useT, type Key } from "../../i18n/i18n";
import { areasFor } from "../../routes";
import { useSession } from "../../session";

const KEYS: [string, Key][] = [
  ["Ctrl K", "help.palette"],
  ["/", "help.filter"],
  ["j / k", "help.rows"],
  ["Enter", "help.open"],
  ["x", "help.select"],
  ["n", "help.new"],
  ["e", "help.edit"],
  ["Ctrl S", "help.save"],
  ["?", "help.help"],
];

export default function Help({ onClose }: { onClose: () => void }) {
  const { t } = useT();
  const areas = areasFor(useSession().user);
  return (
    <Dialog title={t("help.title")} onClose={onClose}>
      <dl className="keys">
        {KEYS.map(([k, label]) => (
          <div key={k}>
            <dt>
              <kbd>{k}</kbd>
            </dt>
            <dd>{t(label)}</dd>
          </div>
        ))}
        {areas.map((a) => (
          <div key={a.keys}>
            <dt>
              <kbd>{a.keys}</kbd>
            </dt>
            <dd>{t("help.goto", { page: t(a.label) })}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
