import { ApiError } from "../api/client";

/** fieldErrors maps the server's faults by field; faults without a field stay with the general message. */
export function fieldErrors(e: unknown): Record<string, string> {
  if (!(e instanceof ApiError)) return {};
  return Object.fromEntries(e.fields.filter((f) => f.field).map((f) => [f.field, f.message]));
}
