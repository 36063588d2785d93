import { Button } from "@mantine/core";
import { copy } from "./clipboard";
import { useT } from "../i18n/i18n";
import { Dialog } from "./Dialog";
import { Icon } from "./icons";

interface Props {
  title: string;
  text: string;
  secret: string;
  testId: string;
  onClose: () => void;
}

/** OnceDialog shows a secret that is never shown again. */
export function OnceDialog({ title, text, secret, testId, onClose }: Props) {
  const { t } = useT();
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{text}</p>
      <pre className="secret" data-testid={testId}>
        {secret}
      </pre>
      <div className="actions">
        <Button
          variant="default"
          leftSection={<Icon name="copy" size={15} />}
          onClick={() => void copy(secret)}
        >
          {t("common.copy")}
        </Button>
        <Button onClick={onClose}>{t("keys.stored")}</Button>
      </div>
    </Dialog>
  );
}
