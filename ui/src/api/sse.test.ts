import { expect, test } from "vitest";
import { SSEParser } from "./sse";

const STREAM =
  'id: 7\nevent: check\ndata: {"a":1}\n\n: comment\n\nevent: event\ndata: one\ndata: two\n\ndata: x\r\n\r\n';
const WANT = [
  { id: "7", event: "check", data: '{"a":1}' },
  { id: "", event: "event", data: "one\ntwo" },
  { id: "", event: "message", data: "x" },
];

test("events are the same however the stream is cut", () => {
  for (let size = 1; size <= STREAM.length; size++) {
    const p = new SSEParser();
    const got = [];
    for (let i = 0; i < STREAM.length; i += size) got.push(...p.push(STREAM.slice(i, i + size)));
    expect(got).toEqual(WANT);
  }
});
