export interface SSEMessage {
  id: string;
  event: string;
  data: string;
}

/** SSEParser cuts a stream of text into server-sent events. */
export class SSEParser {
  private rest = "";
  private cur: SSEMessage = { id: "", event: "", data: "" };

  /** push takes the next piece and returns the events that are complete with it. */
  push(text: string): SSEMessage[] {
    const out: SSEMessage[] = [];
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const l of lines) {
      if (l === "") {
        if (this.cur.data !== "" || this.cur.event !== "")
          out.push({ ...this.cur, event: this.cur.event || "message" });
        this.cur = { id: "", event: "", data: "" };
        continue;
      }
      const colon = l.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? l : l.slice(0, colon);
      const value = colon < 0 ? "" : l.slice(colon + 1).replace(/^ /, "");
      if (name === "data") this.cur.data += (this.cur.data ? "\n" : "") + value;
      else if (name === "id") this.cur.id = value;
      else if (name === "event") this.cur.event = value;
    }
    return out;
  }
}
