import { ApiError } from "../api/client";
import { sentence } from "../i18n/i18n";

/** fieldErrors maps the server's faults by field, in the reader's language; faults without a field stay with the general message. */
export function fieldErrors(e: unknown): Record<string, string> {
  if (!(e instanceof ApiError)) return {};
  return Object.fromEntries(e.fields.filter((f) => f.field).map((f) => [f.field, sentence(f.message)]));
}
