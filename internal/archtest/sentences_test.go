package archtest

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sentenceTable holds the Chinese of what the servers say in English. The pages
// find a sentence by its pattern: its text, with {} for each part that varies.
const sentenceTable = "ui/src/locales/zh-CN.sentences.json"

// spoken are the packages whose sentences people read on the pages: what checks
// found, why a state is what it is, what is wrong with what they wrote. Of those
// with true all texts count, of the others those that are made for people:
// faults of fields, errors that carry a code, messages.
var spoken = map[string]bool{
	"probe": true, "verdict": true, "hosts": true, "scrape": true, "model": true,
	"agent/answer.go": true, "agent/scraper": true, "agent/service": true, "alert/import.go": true, "alert/import_receiver.go": true,
	"app/cluster.go": true, "app/health.go": true, "app/platform_import.go": true, "app/quiet.go": true, "control/state.go": true,
	"notify/attempt.go": true, "query/explain.go": true, "query/front.go": true, "rules/check.go": true, "rules/evaluate.go": true,
	"selfwatch/deadman.go": true, "selfwatch/health.go": true,
	"agent": false, "alert": false, "api": false, "app": false, "auth": false, "backup": false, "catalog": false, "control": false,
	"history": false, "notify": false, "pki": false, "query": false, "release": false, "rules": false, "schedule": false, "selfwatch": false,
}

// silent are parts of them whose texts only commands, logs and metrics show.
var silent = []string{
	"metrics.go", "testdata", "probe/probetest", "probe/worker.go", "hosts/hosts.go", "hosts/usage.go", "scrape/scrape.go", "verdict/verdict.go",
	"agent/framing", "agent/spool", "agent/update", "app/app.go", "app/backup_stopped.go", "app/identity.go", "app/witness.go",
	"backup/bucket.go", "backup/create.go", "backup/key.go", "backup/manifest.go", "backup/restore.go", "backup/upload.go",
	"control/config.go", "control/recover.go", "control/restore.go", "history/history.go",
	"pki/authority.go", "pki/files.go", "pki/join.go", "pki/join_check.go", "pki/renew.go", "pki/verify.go",
	"release/http.go", "release/install.go", "release/sign.go", "release/wire.go", "rules/packs", "rules/unittest.go", "rules/unittest_check.go",
}

// wordless are texts of the rest that need no Chinese: parts of protocols,
// events that are told by their code, errors that only the log shows.
var wordless = []string{
	"{} ms", "{} s", "{} from {}", "probe {}", "read {}", "write {}", ":// or", "is refused:",
	"Bearer {}", "Basic {}", "Proxy-Authorization: {}", "Cookie: {}", "Content-Length: {}", "EHLO panoptes", "application/json; charset=utf-8",
	"avg by ({}) (avg_over_time(probe_success{{}={}}[{}]))",
	"{} was {}", "{} {} {} by {}",
	"a node has an id, a role and the hash of its key", "a token has an id and a hash", "a scrape record without a name",
	"key of actions", "news of hosts", "frame {} after {}", "a frame before the dictionary began", "listen for discovery",
	"encode state of region {}", "event {} ({} about {}) is no state of a region", "read region event {}",
	"encode state of check {}", "event {} ({} about {}) is no state of a check", "read state event {}", "read state event {}: {} is no state",
	"targets of the servers", "was {}", "time of the start of the machine", "service {} of the servers", "imported from alertmanager.yml", "repeat {}", "receiver {}: {}[{}]",
	"{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}",
	"find the directory of {}", "look whether this server was restored", "keep that nobody is notified", "open the store",
	"open the membership: {}{}", "sample files", "engine outside", "dead man's switch", "test notification", "write: {}: more than {} conditions or operations",
}

func TestPagesCanSayEverySentenceInChinese(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("../..", sentenceTable))
	require.NoError(t, err)
	var table map[string]string
	require.NoError(t, json.Unmarshal(b, &table))
	known := map[string]bool{}
	var patterns []*regexp.Regexp
	for k := range table {
		known[bare(hole.ReplaceAllString(k, "{}"))] = true
		if hole.MatchString(k) {
			patterns = append(patterns, regexp.MustCompile("^"+strings.Join(quoted(hole.Split(k, -1)), number)+"$"))
		}
	}
	var missing []string
	met := 0
	for pkg, all := range spoken {
		for _, s := range sentences(t, pkg, all) {
			met++
			if !known[s.text] && !slices.Contains(wordless, s.text) &&
				!slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(s.text) }) {
				missing = append(missing, fmt.Sprintf("%s: %q", s.place, s.text))
			}
		}
	}
	require.Greater(t, met, 500, "the sentences of the servers are not found any more")
	slices.Sort(missing)
	require.Empty(t, missing, "readers of the Chinese pages would read this in English. Add to %s a line for each,\n"+
		"\"English\": \"Chinese\", with {} for what varies ({n} number, {t} time, {w} one word, {raw} left as it is; the Chinese names\n"+
		"it {1}, {2} …), or, when it is nothing people read on a page, add it to wordless in this test:\n%s", sentenceTable, strings.Join(missing, "\n"))
}

// number is what a pattern of the table may say for a number that a sentence has fixed.
const number = `(?:\{\}|[\w.:]*\d[\w.:]*)`

func quoted(parts []string) []string {
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return parts
}

type sentence struct{ text, place string }

var (
	hole = regexp.MustCompile(`\{\w*\}`)
	verb = regexp.MustCompile(`%[-+# 0]*\d*(?:\.\d+)?(?:\[\d+\])?[a-zA-Z]`)
	// A hole glued to a word holds what is around the sentence: "group x: ".
	glued = regexp.MustCompile(`^\{\}([a-z])|([a-z?])\{\}$`)
	word  = regexp.MustCompile(`[a-z]{2}`)
)

// sentences collects the sentences of a package and those below it.
func sentences(t *testing.T, pkg string, all bool) (out []sentence) {
	t.Helper()
	fset := token.NewFileSet()
	root := os.DirFS("..")
	seen := map[string]bool{}
	err := fs.WalkDir(root, pkg, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.ContainsFunc(silent, func(q string) bool { return path == q || d.Name() == q }):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		src, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, "internal/"+path, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Walk(&reader{all: all, found: func(e ast.Expr, text string) {
			text = bare(text)
			if word.MatchString(strings.ReplaceAll(text, "{}", "")) && strings.Contains(text, " ") && !strings.Contains(text, "\n") && !seen[text] {
				seen[text] = true
				at := fset.Position(e.Pos())
				out = append(out, sentence{text, fmt.Sprintf("%s:%d", at.Filename, at.Line)})
			}
		}}, f)
		return nil
	})
	require.NoError(t, err)
	return out
}

// bare leaves out what is only wrapped around a sentence, as the pages do.
func bare(s string) string {
	for {
		was := s
		for _, sep := range []string{": ", "; "} {
			s = strings.TrimPrefix(strings.TrimPrefix(s, sep), "{}"+sep)
			s = strings.TrimSuffix(strings.TrimSuffix(s, sep), sep+"{}")
		}
		if strings.HasPrefix(s, ", ") {
			s = "{}" + s
		}
		s = glued.ReplaceAllString(s, "$1$2")
		if s == was {
			return strings.TrimSpace(s)
		}
	}
}

// reader walks over a file and hands on its texts, joined with {} for what varies.
type reader struct {
	all   bool
	found func(ast.Expr, string)
}

func (r *reader) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.ImportSpec:
		return nil
	case *ast.Field:
		if n.Tag != nil {
			return nil
		}
	case *ast.KeyValueExpr:
		if id, ok := n.Key.(*ast.Ident); ok && slices.Contains([]string{"Message", "Msg", "Reason"}, id.Name) {
			ast.Walk(&reader{true, r.found}, n.Value)
			return nil
		}
	case *ast.CallExpr:
		if slices.Contains(mute, called(n)) {
			return nil
		}
		if text, ok := formatted(n); ok {
			if r.all || called(n) == "Add" || carriesCode(n) {
				r.found(n, text)
			}
			for _, a := range n.Args {
				if !isText(a) {
					ast.Walk(r, a)
				}
			}
			return nil
		}
	case *ast.BinaryExpr:
		if isText(n) {
			if r.all {
				r.found(n, pattern(n))
			}
			eachPart(n, func(e ast.Expr) { ast.Walk(r, e) })
			return nil
		}
	case *ast.BasicLit:
		if r.all && isText(n) {
			r.found(n, pattern(n))
		}
	}
	return r
}

// mute are the functions that take texts which people do not see, or see in both languages.
var mute = []string{
	"Debug", "Info", "Warn", "Error", "Log", "T", "t", "MustCompile", "panic",
	"Contains", "ContainsAny", "HasPrefix", "HasSuffix", "CutPrefix", "TrimPrefix", "TrimSuffix", "Trim", "ReplaceAll", "Split", "NewReplacer", "Fprintf", "Fprint", "Fprintln",
}

func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// carriesCode tells an error that is made for people by the model.Err it wraps.
func carriesCode(c *ast.CallExpr) bool {
	return called(c) == "Errorf" && slices.ContainsFunc(c.Args, func(a ast.Expr) bool {
		s, ok := a.(*ast.SelectorExpr)
		if !ok || !strings.HasPrefix(s.Sel.Name, "Err") {
			return false
		}
		id, ok := s.X.(*ast.Ident)
		return ok && id.Name == "model"
	})
}

// formatted is the pattern of a call that takes a format, known by its verbs.
func formatted(c *ast.CallExpr) (string, bool) {
	for i, a := range c.Args {
		if !isText(a) || i == 0 && called(c) == "Add" {
			continue
		}
		if s := pattern(a); called(c) == "Add" || verb.MatchString(s) {
			s = strings.ReplaceAll(s, "%%", "\x00")
			return strings.ReplaceAll(verb.ReplaceAllString(s, "{}"), "\x00", "%"), true
		}
	}
	return "", false
}

func isText(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (isText(e.X) || isText(e.Y))
	case *ast.ParenExpr:
		return isText(e.X)
	}
	return false
}

// eachPart calls f with what a text is joined with.
func eachPart(e ast.Expr, f func(ast.Expr)) {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		eachPart(e.X, f)
		eachPart(e.Y, f)
	case *ast.BasicLit:
	default:
		f(e)
	}
}

func pattern(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return pattern(e.X) + pattern(e.Y)
		}
	case *ast.ParenExpr:
		return pattern(e.X)
	case *ast.CallExpr:
		if s, ok := formatted(e); ok {
			return s
		}
	}
	return "{}"
}
