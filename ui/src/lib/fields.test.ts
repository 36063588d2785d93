import { expect, test } from "vitest";
import type { Field } from "../api/types";
import {
  errorFor,
  formFields,
  fromText,
  getPath,
  listItems,
  orphans,
  setPath,
  specOf,
  structured,
} from "./fields";

test("setPath makes what is missing and leaves the rest alone", () => {
  const before = { method: "GET", tls: { ca: "x" } };
  const after = setPath(before, "tls.basic.password", "p");
  expect(after).toEqual({ method: "GET", tls: { ca: "x", basic: { password: "p" } } });
  expect(before).toEqual({ method: "GET", tls: { ca: "x" } });
  expect(getPath(after, "tls.basic.password")).toBe("p");
});

test("setPath removes a value and the objects that become empty", () => {
  expect(setPath({ a: { b: { c: 1 } }, d: 2 }, "a.b.c", undefined)).toEqual({ d: 2 });
  expect(setPath({ a: { b: 1, c: 2 } }, "a.b", undefined)).toEqual({ a: { c: 2 } });
});

test("a text where an object should be does not break reading", () => {
  expect(getPath({ a: "text" }, "a.b.c")).toBeUndefined();
  expect(setPath({ a: "text" }, "a.b", 1)).toEqual({ a: { b: 1 } });
});

test("numbers become numbers; what is none is left for the server to name", () => {
  expect(fromText("int", "42")).toBe(42);
  expect(fromText("float", "0.5")).toBe(0.5);
  expect(fromText("int", "many")).toBe("many");
  expect(fromText("int", "")).toBeUndefined();
  expect(fromText("string", "42")).toBe("42");
});

test("formFields leaves out objects whose parts are fields", () => {
  const f = (name: string, type: Field["type"]): Field => ({ name, type });
  const list = [f("basic_auth", "object"), f("basic_auth.password", "secret"), f("body", "object")];
  expect(formFields(list).map((x) => x.name)).toEqual(["basic_auth.password", "body"]);
});

test("errors find their field, by its parts too; the others are not lost", () => {
  const errors = {
    "http.expect_status[1]": "is no status",
    name: "is missing",
    "http.odd": "there is no such field",
  };
  expect(errorFor(errors, "http.expect_status")).toBe("[1]: is no status");
  expect(errorFor(errors, "name")).toBe("is missing");
  expect(errorFor(errors, "http.expect")).toBeUndefined();
  expect(orphans(errors, ["name", "http.expect_status"])).toEqual([["http.odd", "there is no such field"]]);
});

test("lists of objects ask for the JSON editor", () => {
  expect(structured([{ a: 1 }])).toBe(true);
  expect(structured(["a"])).toBe(false);
  expect(structured(undefined)).toBe(false);
  expect(listItems("one")).toEqual(["one"]);
  expect(listItems([200, "300-399"])).toEqual(["200", "300-399"]);
});

test("specOf drops what the server adds", () => {
  expect(
    specOf({ id: "1", revision: 3, name: "a", state: {}, bars: [], uptime: {}, http: { method: "GET" } }),
  ).toEqual({ name: "a", http: { method: "GET" } });
});
