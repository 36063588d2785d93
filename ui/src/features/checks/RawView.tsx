import { Button } from "@mantine/core";
import { copy } from "../../components/clipboard";
import { JsonInput } from "../../components/FieldInput";
import { Icon } from "../../components/icons";
import type { Json, JsonObject } from "../../api/types";
import { useT } from "../../i18n/i18n";
import { toYAML } from "../../lib/yaml";

const isObject = (v: Json | undefined): v is JsonObject =>
  typeof v === "object" && v !== null && !Array.isArray(v);

/** RawView edits the object as JSON and shows the document that `panoptes apply` takes. */
export function RawView({ value, onChange }: { value: JsonObject; onChange: (v: JsonObject) => void }) {
  const { t } = useT();
  const yaml = toYAML({ kind: "check", name: value.name ?? "", spec: value });
  return (
    <section className="card">
      <JsonInput label="JSON" rows={16} value={value} onChange={(v) => isObject(v) && onChange(v)} />
      <h2>
        {t("editor.yaml")}
        <Button
          size="xs"
          variant="default"
          leftSection={<Icon name="copy" size={14} />}
          onClick={() => void copy(yaml)}
        >
          {t("common.copy")}
        </Button>
      </h2>
      {/* A long document scrolls, and by keyboard too. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0}>{yaml}</pre>
    </section>
  );
}
