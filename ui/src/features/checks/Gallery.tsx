import type { KindType } from "../../api/types";
import { Icon, type IconName } from "../../components/icons";
import { pick, tMaybe, useT } from "../../i18n/i18n";

const ICONS: Record<string, IconName> = {
  http: "globe",
  tcp: "route",
  icmp: "send",
  dns: "search",
  tls: "lock",
  websocket: "refresh",
  grpc: "external",
  push: "down",
};

/** Gallery offers the kinds of check. */
export function Gallery({ types, onPick }: { types: KindType[]; onPick: (name: string) => void }) {
  const { t } = useT();
  return (
    <>
      <h2 className="gallery-title">{t("editor.gallery")}</h2>
      <ul className="gallery">
        {types.map((k) => (
          <li key={k.name}>
            <button type="button" onClick={() => onPick(k.name)} data-kind={k.name}>
              <Icon name={ICONS[k.name] ?? "checks"} size={24} />
              <b>{pick(k.label, k.name)}</b>
              <small>{tMaybe(`kind.${k.name}`) ?? k.target?.placeholder ?? ""}</small>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}
