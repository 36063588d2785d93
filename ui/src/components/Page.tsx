import { useEffect, type ReactNode } from "react";
import { Link } from "wouter";
import { Icon } from "./icons";

interface Props {
  title: string;
  /** The heading, where it is more than the title. */
  heading?: ReactNode;
  back?: { href: string; label: string };
  actions?: ReactNode;
  children: ReactNode;
}

/** Page gives a view its heading, its title in the browser and its actions. */
export function Page({ title, heading, back, actions, children }: Props) {
  useEffect(() => {
    document.title = `${title} · Panoptes`;
  }, [title]);
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          {back && (
            <Link href={back.href} className="back" aria-label={back.label} title={back.label}>
              <Icon name="left" />
            </Link>
          )}
          <h1>{heading ?? title}</h1>
        </div>
        {actions && <div className="page-actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}
