import type { Field } from "../../api/types";
import { language } from "../../i18n/i18n";

/** field describes an input whose texts come from the catalogue. */
export function field(
  name: string,
  type: Field["type"],
  label: string,
  more: Partial<Omit<Field, "help">> & { help?: string } = {},
): Field {
  const { help, ...rest } = more;
  return {
    name,
    type,
    label: { [language()]: label },
    ...(help ? { help: { [language()]: help } } : {}),
    ...rest,
  };
}
