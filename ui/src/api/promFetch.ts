import { basePath } from "./client";

/** promBase and promFetch let the PromQL editor ask for metrics and labels. */
export const promBase = basePath;
export const promFetch = (input: RequestInfo, init?: RequestInit): Promise<Response> =>
  fetch(input, { ...init, credentials: "same-origin" });
