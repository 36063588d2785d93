import { useMantineColorScheme } from "@mantine/core";
import { useId, useState, type ReactNode } from "react";
import { useLocation } from "wouter";
import { useCheckSearch } from "../../api/checks";
import { useHostSearch } from "../../api/hosts";
import { Dialog } from "../../components/Dialog";
import { Icon } from "../../components/icons";
import { StatusIcon } from "../../components/Status";
import { useT, LANGS, LANG_NAMES } from "../../i18n/i18n";
import { equal } from "../../lib/matchers";
import { areasFor } from "../../routes";
import { useCan, useSession } from "../../session";
import { MODES } from "../../theme";
import { switchLanguage } from "./Preferences";

interface Item {
  key: string;
  label: string;
  hint?: string;
  icon: ReactNode;
  run: () => void;
}

/** Palette finds pages, checks and actions by typing. */
export default function Palette({ onClose, onHelp }: { onClose: () => void; onHelp: () => void }) {
  const { t, lang } = useT();
  const [, go] = useLocation();
  const { setColorScheme } = useMantineColorScheme();
  const editor = useCan("editor");
  const areas = areasFor(useSession().user);
  const id = useId();
  const [q, setQ] = useState("");
  const [at, setAt] = useState(0);
  const checks = useCheckSearch(q).data?.items ?? [];
  const hosts = useHostSearch(q, q ? 6 : 3).data?.items ?? [];
  const leave = (f: () => void) => () => {
    onClose();
    f();
  };
  const actions: Item[] = [
    ...areas.map((a) => ({
      key: a.path,
      label: t(a.label),
      hint: a.keys,
      icon: <Icon name={a.icon} />,
      run: leave(() => go(a.path)),
    })),
    ...(editor
      ? [
          {
            key: "new",
            label: t("checks.new"),
            icon: <Icon name="plus" />,
            run: leave(() => go("/checks/new")),
          },
          {
            key: "sil",
            label: t("silences.new"),
            icon: <Icon name="mute" />,
            run: leave(() => go("/silences?new=1")),
          },
        ]
      : []),
    ...MODES.map((m) => ({
      key: m,
      label: t("palette.theme", { theme: t(`theme.${m}`) }),
      icon: <Icon name="sun" />,
      run: leave(() => setColorScheme(m)),
    })),
    ...LANGS.filter((l) => l !== lang).map((l) => ({
      key: l,
      label: LANG_NAMES[l],
      icon: <Icon name="globe" />,
      run: leave(() => switchLanguage(l)),
    })),
    { key: "help", label: t("help.title"), hint: "?", icon: <Icon name="info" />, run: onHelp },
  ];
  const needle = q.toLowerCase();
  const items: Item[] = [
    ...actions.filter((a) => !q || a.label.toLowerCase().includes(needle)).slice(0, q ? 5 : 7),
    ...hosts.map((h) => ({
      key: `h${h.id}`,
      label: h.name,
      hint: h.region,
      icon: <Icon name="host" />,
      run: leave(() => go(`/hosts/${encodeURIComponent(h.id)}`)),
    })),
    ...checks.flatMap((c) => [
      {
        key: c.id,
        label: c.name,
        hint: c.type,
        icon: <StatusIcon status={c.state?.status ?? "pending"} />,
        run: leave(() => go(`/checks/${c.id}`)),
      },
      ...(q && editor && checks.length < 4
        ? [
            {
              key: `s${c.id}`,
              label: t("palette.silence", { name: c.name }),
              icon: <Icon name="mute" />,
              run: leave(() => go(`/silences?new=1&m=${encodeURIComponent(equal("check", c.name))}`)),
            },
          ]
        : []),
    ]),
  ];
  const sel = Math.min(at, items.length - 1);
  return (
    <Dialog title={t("palette.title")} onClose={onClose}>
      <input
        className="palette-input"
        autoFocus
        role="combobox"
        aria-expanded="true"
        aria-controls={id}
        aria-activedescendant={sel >= 0 ? `${id}-${sel}` : undefined}
        aria-label={t("palette.title")}
        placeholder={t("palette.placeholder")}
        value={q}
        onChange={(e) => {
          setQ(e.target.value);
          setAt(0);
        }}
        onKeyDown={(e) => {
          if (e.key === "ArrowDown") setAt(Math.min(sel + 1, items.length - 1));
          else if (e.key === "ArrowUp") setAt(Math.max(sel - 1, 0));
          else if (e.key === "Enter") items[sel]?.run();
          else return;
          e.preventDefault();
        }}
      />
      <ul className="palette-list" role="listbox" id={id} aria-label={t("palette.title")}>
        {items.map((it, i) => (
          // Keys are handled by the input, as the combobox pattern asks for.
          // eslint-disable-next-line jsx-a11y/click-events-have-key-events
          <li
            key={it.key}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === sel}
            tabIndex={-1}
            onClick={it.run}
            onMouseMove={() => setAt(i)}
          >
            {it.icon}
            <span>{it.label}</span>
            {it.hint && <small>{it.hint}</small>}
          </li>
        ))}
      </ul>
      {!items.length && <p className="muted">{t("palette.none")}</p>}
    </Dialog>
  );
}
