import { closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, insertNewlineKeepIndent } from "@codemirror/commands";
import { HighlightStyle, StreamLanguage, syntaxHighlighting, type StreamParser } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";
import { sentence } from "../i18n/i18n";
import type { Mark } from "../lib/yamlDoc";

interface Props {
  value: string;
  onChange: (v: string) => void;
  label: string;
  /** What is wrong, at lines. */
  faults: Mark[];
  /** Brings a line into view; another object each time. */
  jump?: { line: number } | undefined;
}

/** YAML as far as colours need it: keys, texts, numbers, comments, blocks. */
const yaml: StreamParser<{ block: number }> = {
  startState: () => ({ block: -1 }),
  token(s, state) {
    if (s.sol()) {
      const indent = s.indentation();
      if (state.block >= 0 && (indent > state.block || /^\s*$/.test(s.string))) {
        s.skipToEnd();
        return "string";
      }
      state.block = -1;
    }
    if (s.eatSpace()) return null;
    if (s.match(/^#.*/)) return "comment";
    if (s.match(/^(---|\.\.\.)\s*$/)) return "meta";
    if (s.match(/^-(?=\s|$)/)) return "punctuation";
    if (s.match(/^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#"'{}[\],&*!|>][^#:{}[\],]*?)(?=\s*:(\s|$))/))
      return "labelName";
    if (s.match(/^:(?=\s|$)/)) {
      if (/^\s*[|>][-+\d]*\s*(#.*)?$/.test(s.string.slice(s.pos))) state.block = s.indentation();
      return "punctuation";
    }
    if (s.match(/^[|>][-+\d]*\s*$/)) return "keyword";
    if (s.match(/^"(?:[^"\\]|\\.)*"?/) || s.match(/^'(?:[^']|'')*'?/)) return "string";
    if (s.match(/^[{}[\],]/)) return "punctuation";
    if (s.match(/^[&*!][\w-]+/)) return "keyword";
    if (s.match(/^(true|false|null|~)(?=\s*($|[#,\]}]))/)) return "keyword";
    if (s.match(/^-?\d+(\.\d+)?([a-z%]{1,2})?(?=\s*($|[#,\]}]))/)) return "number";
    s.match(/^[^#{}[\],]+|./);
    return null;
  },
  tokenTable: { labelName: tags.labelName },
  languageData: { commentTokens: { line: "#" } },
};

const colours = HighlightStyle.define([
  { tag: tags.number, color: "var(--code-number)" },
  { tag: tags.string, color: "var(--code-string)" },
  { tag: tags.keyword, color: "var(--code-keyword)" },
  { tag: tags.labelName, color: "var(--code-function)" },
  { tag: tags.comment, color: "var(--muted)" },
  { tag: tags.meta, color: "var(--muted)" },
]);

function diagnostics(state: EditorState, faults: Mark[]): Diagnostic[] {
  return faults.map((f) => {
    const line = state.doc.line(Math.min(Math.max(1, f.line), state.doc.lines));
    const lead = line.text.length - line.text.trimStart().length;
    return { from: line.from + lead, to: line.to, severity: "error", message: sentence(f.message) };
  });
}

/** YamlEditor edits YAML; Tab leaves it, as everywhere on the page. */
export default function YamlEditor({ value, onChange, label, faults, jump }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const calls = useRef({ onChange });
  const first = useRef({ value, label });
  useEffect(() => {
    calls.current = { onChange };
  });
  useEffect(() => {
    if (!host.current) return;
    const nonce = (globalThis as { __webpack_nonce__?: string }).__webpack_nonce__;
    const v = new EditorView({
      parent: host.current,
      state: EditorState.create({
        doc: first.current.value,
        extensions: [
          lineNumbers(),
          lintGutter(),
          history(),
          drawSelection(),
          highlightActiveLine(),
          closeBrackets(),
          StreamLanguage.define(yaml),
          syntaxHighlighting(colours),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": first.current.label, spellcheck: "false" }),
          ...(nonce ? [EditorView.cspNonce.of(nonce)] : []),
          keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...lintKeymap]),
          Prec.high(keymap.of([{ key: "Enter", run: insertNewlineKeepIndent }])),
          EditorView.updateListener.of((u) => {
            if (u.docChanged) calls.current.onChange(u.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = v;
    return () => v.destroy();
  }, []);
  useEffect(() => {
    const v = view.current;
    if (v && v.state.doc.toString() !== value)
      v.dispatch({ changes: { from: 0, to: v.state.doc.length, insert: value } });
  }, [value]);
  useEffect(() => {
    const v = view.current;
    if (v) v.dispatch(setDiagnostics(v.state, diagnostics(v.state, faults)));
  }, [faults]);
  useEffect(() => {
    const v = view.current;
    if (!v || !jump?.line) return;
    const line = v.state.doc.line(Math.min(jump.line, v.state.doc.lines));
    v.dispatch({
      selection: { anchor: line.from },
      effects: EditorView.scrollIntoView(line.from, { y: "center" }),
    });
    v.focus();
  }, [jump]);
  return <div ref={host} className="prom-editor yaml-editor" />;
}
