/** The JSON of the HTTP API. Times are RFC 3339, durations of records are texts like "1m30s". */

export const STATUSES = ["up", "down", "degraded", "unknown", "maintenance", "paused", "pending"] as const;
export type Status = (typeof STATUSES)[number];
export type BarStatus = Status | "none";
export type Severity = "critical" | "warning" | "info";
export type Role = "viewer" | "editor" | "admin";
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export interface User {
  name: string;
  display_name?: string;
  role: Role;
  language?: string;
  /** Labels: the user sees only what has them. */
  bound?: Record<string, string>;
}
export interface Me {
  user: User;
  server: { name: string; version: string; node: string };
  writable: boolean;
  writable_reason?: string;
}
export interface Boot extends Me {
  /** Nonce of the content security policy, for style elements. */
  nonce?: string;
}

export interface RegionState {
  status: Status;
  at: string;
  message: string;
  duration_seconds: number;
  prober: string;
}
export interface CheckState {
  status: Status;
  since: string;
  message: string;
  code?: string;
  regions?: Record<string, RegionState> | null;
}
export interface Bar {
  s: BarStatus;
  down?: number;
}
export interface Meta {
  id: string;
  name: string;
  revision?: number;
  created_at?: string;
  updated_at?: string;
}
export interface Check extends Meta {
  type: string;
  target?: string;
  description?: string;
  interval?: string;
  timeout?: string;
  regions?: string[];
  policy?: string;
  paused?: boolean;
  severity?: Severity;
  labels?: Record<string, string> | null;
  state?: CheckState;
  bars?: Bar[];
  uptime?: Record<string, number | null>;
  [block: string]: unknown;
}
export interface Page<T> {
  items: T[] | null;
  next?: string;
  total?: number;
}
export interface CheckPage extends Page<Check> {
  counts?: Partial<Record<Status, number>>;
}
export interface Sample {
  name: string;
  labels?: Record<string, string> | string[] | null;
  value: number;
}
export interface RunResult {
  region: string;
  prober: string;
  success: boolean;
  degraded?: boolean;
  message: string;
  duration_seconds: number;
  samples?: Sample[] | null;
  assertions?: { text: string; found: string; passed: boolean }[] | null;
  evidence?: Json;
}
export interface UptimeWindow {
  up: number;
  down: number;
  degraded: number;
  unknown: number;
  maintenance: number;
  paused: number;
  pending: number;
  none: number;
  uptime: number | null;
  outages: number;
}
export interface Uptime {
  windows: Record<string, UptimeWindow>;
  regions?: Record<string, Record<string, number>> | null;
}
export interface RangeBar {
  from: string;
  to: string;
  s: BarStatus;
  down: number;
}

export type Text = Record<string, string>;
export interface Field {
  name: string;
  type:
    "string" | "text" | "int" | "float" | "bool" | "duration" | "enum" | "list" | "map" | "secret" | "object";
  default?: string;
  enum?: string[];
  advanced?: boolean;
  required?: boolean;
  label?: Text;
  help?: Text;
}
export interface KindType {
  name: string;
  label?: Text;
  target?: { label?: Text; placeholder?: string } | null;
  fields: Field[] | null;
}

export interface HealthPart {
  name: string;
  level: string;
  status: "ok" | "warning" | "critical";
  message: string;
}
export interface Health {
  status: "ok" | "warning" | "critical";
  score: number;
  parts?: HealthPart[] | null;
}
export interface Overview {
  health: Health;
  checks: Partial<Record<Status | "total", number>>;
  alerts: { critical?: number; warning?: number; info?: number; silenced?: number };
  worst: Check[] | null;
  events: Event[] | null;
}

export interface Event {
  id: string;
  time: string;
  kind: "state" | "alert" | "delivery" | "audit" | "node";
  subject: string;
  name?: string;
  severity?: Severity;
  actor?: string;
  message: string;
  code?: string;
  labels?: Record<string, string> | null;
  data?: Json;
}

export interface Alert {
  fingerprint: string;
  labels: Record<string, string>;
  annotations?: Record<string, string> | null;
  starts_at: string;
  ends_at?: string;
  status: "active" | "suppressed" | "unprocessed";
  silenced_by?: string[] | null;
  inhibited_by?: string[] | null;
  receivers?: string[] | null;
}
export interface Silence {
  id: string;
  matchers: string[];
  starts_at: string;
  ends_at: string;
  created_by?: string;
  comment?: string;
  status: "active" | "pending" | "expired";
}

export interface Receiver extends Meta {
  type: string;
  description?: string;
  [block: string]: unknown;
}
export interface Route extends Meta {
  parent?: string;
  position?: number;
  receiver?: string;
  matchers?: string[] | null;
  group_by?: string[] | null;
  group_wait?: string;
  group_interval?: string;
  repeat_interval?: string;
  continue?: boolean;
}
export interface Maintenance extends Meta {
  description?: string;
  checks?: string[] | null;
  matchers?: Record<string, string> | null;
  all?: boolean;
  start?: string;
  end?: string;
  cron?: string;
  duration?: string;
  timezone?: string;
  paused?: boolean;
}
export interface Region extends Meta {
  description?: string;
  weight?: number;
}
export interface UserRecord extends Meta {
  display_name?: string;
  role: Role;
  language?: string;
  password?: string;
  disabled?: boolean;
  /** Labels that the user is bound to, like team="a". */
  matchers?: string[] | null;
}
export interface Key extends Meta {
  role: Role;
  expires?: string;
  prefix?: string;
  key?: string;
  /** Labels that the key is bound to, like team="a". */
  matchers?: string[] | null;
}
export interface TestResult {
  ok: boolean;
  message: string;
  duration_seconds?: number;
}

export interface PromSeries {
  metric: Record<string, string>;
  values?: [number, string][];
  value?: [number, string];
}
export type PromData =
  | { resultType: "matrix"; result: PromSeries[] }
  | { resultType: "vector"; result: PromSeries[] }
  | { resultType: "scalar"; result: [number, string] }
  | { resultType: "string"; result: [number, string] };
