import type { Host } from "../../api/hosts";
import { type Key, sentence, t } from "../../i18n/i18n";

/** What the servers say of a host, in the reader's language; the parts in brackets are kept. */
const SAYINGS: [RegExp, Key, string[]][] = [
  [/^its agent is silent; others look whether/, "hosts.say.looking", []],
  [/^its agent is silent, the host answers: (.+)$/, "hosts.say.answers", ["what"]],
  [/^its agent is silent; no other worker could look/, "hosts.say.nobody", []],
  [/^all (\d+) hosts of region (.+) are silent/, "hosts.say.region", ["n", "region"]],
  [/^its agent is silent; nobody could reach the host before/, "hosts.say.before", []],
  [
    /^its agent is silent and it does not answer: tried (\d+) ways? from (\d+)/,
    "hosts.say.down",
    ["ways", "n"],
  ],
  [/^its clock is (\S+) ahead/, "hosts.say.ahead", ["span"]],
  [/^its clock is (\S+) behind/, "hosts.say.behind", ["span"]],
  [/^its agent was stopped/, "hosts.say.stopped", []],
  [/^the machine was shut down/, "hosts.say.shutdown", []],
  [/^the machine is being started anew/, "hosts.say.reboot", []],
];

/** hostMessage says why a host is in its state; what has no translation keeps the server's sentence. */
export function hostMessage(h: Pick<Host, "status" | "message" | "code">): string {
  const m = h.message ?? "";
  for (const [re, key, names] of SAYINGS) {
    const found = re.exec(m);
    if (!found) continue;
    const params: Record<string, string | number> = {};
    names.forEach((name, i) => {
      const v = found[i + 1] ?? "";
      params[name] = /^\d+$/.test(v) ? Number(v) : v;
    });
    return t(key, params);
  }
  return sentence(m);
}
