/** The only place that talks HTTP. Everything else uses the typed resources beside it. */

export interface FieldFault {
  field: string;
  message: string;
}

/** What went wrong with a request. `code` is one of the API's, or "network". */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly fields: FieldFault[] = [],
    readonly retryAfter = 0,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** base is the URL under which the server lives; it ends with a slash. */
export const base = new URL("./", document.baseURI);

/** basePath is base's path without the last slash, for the router. */
export const basePath = base.pathname.replace(/\/$/, "");

type Query = Record<string, string | number | boolean | undefined | null | string[]>;

export interface RequestOptions {
  body?: unknown;
  query?: Query;
  ifMatch?: string | number | undefined;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/** url builds an address below the base path; empty parameters are left out. */
export function url(path: string, query?: Query): URL {
  const u = new URL(path.replace(/^\//, ""), base);
  for (const [k, v] of Object.entries(query ?? {})) {
    if (v === undefined || v === null || v === "") continue;
    if (Array.isArray(v)) v.forEach((x) => u.searchParams.append(k, x));
    else u.searchParams.set(k, String(v));
  }
  return u;
}

/** seg escapes one path segment. */
export const seg = encodeURIComponent;

/** reachable waits until the server answers, whatever it says. */
export async function reachable(): Promise<void> {
  for (;;) {
    const answered = await fetch(url("-/healthy"), { cache: "no-store" }).then(
      () => true,
      () => false,
    );
    if (answered) return;
    await new Promise((done) => setTimeout(done, 2000));
  }
}

/** toLogin leaves for the login page and comes back here afterwards. */
export function toLogin(): void {
  const here = location.pathname.slice(basePath.length) + location.search;
  location.assign(url("login", { next: here === "/" ? "" : here }));
}

async function fault(res: Response): Promise<ApiError> {
  const text = await res.text().catch(() => "");
  const retry = Number(res.headers.get("Retry-After") ?? 0) || 0;
  try {
    const j = JSON.parse(text) as {
      error?: string | { code?: string; message?: string; field?: string; fields?: FieldFault[] };
      errorType?: string;
    };
    if (typeof j.error === "string") return new ApiError(res.status, j.errorType ?? "internal", j.error);
    if (j.error) {
      const e = j.error;
      const fields = e.fields?.length
        ? e.fields
        : e.field
          ? [{ field: e.field, message: e.message ?? "" }]
          : [];
      return new ApiError(res.status, e.code ?? "internal", e.message ?? "", fields, retry);
    }
  } catch {
    // Not our JSON: a proxy answered.
  }
  return new ApiError(res.status, "internal", text.slice(0, 300) || res.statusText, [], retry);
}

/** open sends a request and returns the response once it is known to be good. */
export async function open(method: string, path: string, o: RequestOptions = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json", ...o.headers };
  const init: RequestInit = { method, headers, credentials: "same-origin" };
  if (o.signal) init.signal = o.signal;
  if (o.body instanceof URLSearchParams) init.body = o.body;
  else if (o.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(o.body);
  }
  if (o.ifMatch !== undefined) headers["If-Match"] = `"${o.ifMatch}"`;
  let res: Response;
  try {
    res = await fetch(url(path, o.query), init);
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new ApiError(0, "network", e instanceof Error ? e.message : String(e));
  }
  if (res.ok) return res;
  if (res.status === 401) toLogin();
  throw await fault(res);
}

/** request sends a request and decodes its JSON; an empty answer is undefined. */
export async function request<T>(method: string, path: string, o?: RequestOptions): Promise<T> {
  const res = await open(method, path, o);
  const text = await res.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string, query?: Query, signal?: AbortSignal) =>
  request<T>("GET", path, { ...(query ? { query } : {}), ...(signal ? { signal } : {}) });
export const post = <T>(path: string, body?: unknown, query?: Query) =>
  request<T>("POST", path, { body, ...(query ? { query } : {}) });
export const del = (path: string, ifMatch?: string | number) =>
  request<undefined>("DELETE", path, { ifMatch });
