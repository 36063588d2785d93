import {
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  completionKeymap,
  type CompletionContext,
  type CompletionResult,
} from "@codemirror/autocomplete";
import { defaultKeymap, history as undo, historyKeymap, insertNewlineAndIndent } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { lintKeymap } from "@codemirror/lint";
import { EditorState, Prec } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import {
  newCompleteStrategy,
  PromQLExtension,
  type CompleteStrategy,
} from "@prometheus-io/codemirror-promql";
import { useEffect, useRef } from "react";
import { useT } from "../../i18n/i18n";
import { promFetch, promBase } from "../../api/promFetch";

interface Props {
  value: string;
  onChange: (v: string) => void;
  onRun: (v: string) => void;
  label: string;
  history: () => string[];
}

const colours = HighlightStyle.define([
  { tag: tags.number, color: "var(--code-number)" },
  { tag: tags.string, color: "var(--code-string)" },
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--code-keyword)" },
  { tag: tags.function(tags.variableName), color: "var(--code-function)" },
  { tag: tags.labelName, color: "var(--code-label)" },
  { tag: tags.comment, color: "var(--muted)" },
  { tag: tags.invalid, color: "var(--down)" },
]);

/** withHistory offers earlier expressions while the line is empty. */
function withHistory(inner: CompleteStrategy, past: () => string[]): CompleteStrategy {
  return {
    async promQL(context: CompletionContext): Promise<CompletionResult | null> {
      const found = (await inner.promQL(context)) as CompletionResult | null;
      if (context.state.doc.length > 0) return found;
      const options = past().map((q) => ({ label: q, detail: "history", apply: q, info: q }));
      return { from: 0, ...found, options: [...options, ...(found?.options ?? [])] };
    },
  };
}

/** PromEditor is a PromQL editor with completion and checks by Prometheus' own library. */
export default function PromEditor({ value, onChange, onRun, label, history }: Props) {
  const { t } = useT();
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const calls = useRef({ onChange, onRun, history });
  const first = useRef({ value, label, hint: t("explore.placeholder") });
  useEffect(() => {
    calls.current = { onChange, onRun, history };
  });
  useEffect(() => {
    if (!host.current) return;
    const promql = new PromQLExtension().setComplete({
      completeStrategy: withHistory(
        newCompleteStrategy({
          remote: { url: promBase, fetchFn: promFetch, cache: { initialMetricList: [] } },
        }),
        () => calls.current.history(),
      ),
    });
    const nonce = (globalThis as { __webpack_nonce__?: string }).__webpack_nonce__;
    const v = new EditorView({
      parent: host.current,
      state: EditorState.create({
        doc: first.current.value,
        extensions: [
          undo(),
          bracketMatching(),
          closeBrackets(),
          autocompletion(),
          syntaxHighlighting(colours),
          EditorView.lineWrapping,
          placeholder(first.current.hint),
          EditorView.contentAttributes.of({ "aria-label": first.current.label, "data-filter": "" }),
          ...(nonce ? [EditorView.cspNonce.of(nonce)] : []),
          promql.asExtension(),
          keymap.of([
            ...closeBracketsKeymap,
            ...defaultKeymap,
            ...historyKeymap,
            ...completionKeymap,
            ...lintKeymap,
          ]),
          Prec.high(
            keymap.of([
              { key: "Enter", run: (e) => (calls.current.onRun(e.state.doc.toString()), true) },
              { key: "Shift-Enter", run: insertNewlineAndIndent },
            ]),
          ),
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
  return <div ref={host} className="prom-editor" />;
}
