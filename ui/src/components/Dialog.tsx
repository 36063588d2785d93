import { useEffect, useId, useRef, type ReactNode } from "react";
import { useT } from "../i18n/i18n";
import { Icon } from "./icons";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  side?: boolean;
}

/** Dialog is the browser's own modal dialog: it traps the focus and gives it back. */
export function Dialog({ title, onClose, children, wide = false, side = false }: Props) {
  const { t } = useT();
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const d = ref.current;
    if (d && !d.open) d.showModal();
    // The browser would begin with the close button.
    d?.querySelector<HTMLElement>(
      "[data-autofocus], .dialog-in > :not(header) :is(input, textarea, select), input.palette-input",
    )?.focus();
    return () => d?.close();
  }, []);
  return (
    // The backdrop only repeats what Escape and the close button do.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions, jsx-a11y/click-events-have-key-events
    <dialog
      ref={ref}
      className={`dialog${wide ? " wide" : ""}${side ? " side" : ""}`}
      aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onClick={(e) => e.target === ref.current && onClose()}
    >
      <div className="dialog-in">
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" className="icon-button" aria-label={t("common.close")} onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
