package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/cli"
)

// run executes a command line against a fake server.
func run(t *testing.T, h http.HandlerFunc, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	var stdout, stderr bytes.Buffer
	code = cli.Main(t.Context(), args, cli.IO{In: strings.NewReader(stdin), Out: &stdout, Err: &stderr, Env: []string{"PANOPTES_SERVER=" + srv.URL, "PANOPTES_API_KEY=k", "HOME=" + t.TempDir()}})
	return code, stdout.String(), stderr.String()
}

func TestStatusExitCodes(t *testing.T) {
	f := func(status string, want int) {
		t.Helper()
		code, out, _ := run(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"status":"` + status + `","score":50}`))
		}, "", "status")
		require.Equal(t, want, code)
		require.Contains(t, out, status)
	}
	f("ok", 0)
	f("warning", 1)
	f("critical", 2)
	f("strange", 3)
	code, _, errs := run(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "", "status")
	require.Equal(t, 3, code)
	require.Contains(t, errs, "502")
}

// apply sends all documents of a stream and names the file and line of a bad one.
func TestApply(t *testing.T) {
	input := "kind: check\nname: a\nspec: {type: tcp}\n---\n# nothing\n---\nkind: check\nname: b\nspec:\n  type: tcp\n"
	h := func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Documents []struct{ Kind, Name string }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Documents) != 2 || r.Header.Get("Authorization") != "Bearer k" {
			http.Error(w, "unexpected", http.StatusTeapot)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(`{"error":{"code":"invalid","message":"target: must be given","field":"documents[1].spec.target"}}`))
	}
	code, _, errs := run(t, h, input, "apply", "-f", "-")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "standard input:7: check b.spec.target")
}

// Numbers arrive as they are written: a label "version: 1.10" is not 1.1.
func TestApplyKeepsNumbersAsWritten(t *testing.T) {
	var got string
	h := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		got = string(b)
		w.WriteHeader(http.StatusTeapot)
	}
	run(t, h, "kind: rules\nname: a\nspec: {big: 12345678901234567890, labels: &l {version: 1.10, n: 1e3, s: '2.0', t: true, z: ~}, list: [1.50, {<<: *l, n: 2}]}\n", "apply", "-f", "-")
	require.Contains(t, got, `"labels":{"n":1e3,"s":"2.0","t":true,"version":1.10,"z":null}`)
	require.Contains(t, got, `"list":[1.50,{"n":2,"s":"2.0","t":true,"version":1.10,"z":null}]`)
	require.Contains(t, got, `"big":12345678901234567890`)
}

func TestApplyRefusesBadFiles(t *testing.T) {
	dir := t.TempDir()
	never := func(w http.ResponseWriter, _ *http.Request) { t.Error("nothing may be sent") }
	f := func(text, want string) {
		t.Helper()
		path := filepath.Join(dir, "x.yml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		code, _, errs := run(t, never, "", "apply", "-f", path)
		require.Equal(t, 2, code)
		require.Contains(t, errs, want)
	}
	f("kind: check\nname: a\nspce: {}\n", "x.yml:3: spce: there is no such key")
	f("kind: check\nspec: {}\n", "x.yml:1: needs kind and name")
	f("a: [\n", "x.yml: line")
	f("", "no documents")
	code, _, errs := run(t, never, "", "apply")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "-f")
}

// A list is read page by page, and control characters of strangers do not
// reach the terminal.
func TestListPages(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("cursor") == "" {
			w.Write([]byte(`{"items":[{"name":"one\u001b[2J","type":"tcp","state":{"status":"up","message":"m"}}],"next":"c1"}`))
			return
		}
		w.Write([]byte(`{"items":[{"name":"two","type":"tcp","state":{"status":"down","message":"m"}}],"next":""}`))
	}
	code, out, _ := run(t, h, "", "check", "list")
	require.Equal(t, 0, code)
	require.Contains(t, out, "one")
	require.Contains(t, out, "two")
	require.NotContains(t, out, "\x1b")
}

func TestRemoveAsks(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) { t.Error("nothing may be removed") }
	code, _, errs := run(t, h, "n\n", "check", "remove", "shop")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "nothing removed")
}

// A key that was stored for one server is not sent to another.
func TestLoginFile(t *testing.T) {
	var seen string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		if r.URL.Path == "/v1/keys" {
			user, password, _ := r.BasicAuth()
			require.Equal(t, "admin/secret", user+"/"+password)
			w.Write([]byte(`{"key":"pnk_new"}`))
			return
		}
		w.Write([]byte(`{"items":[]}`))
	}))
	defer srv.Close()
	other := httptest.NewServer(srv.Config.Handler)
	defer other.Close()
	home := t.TempDir()
	do := func(stdin string, args ...string) int {
		var out, errs bytes.Buffer
		return cli.Main(t.Context(), args, cli.IO{In: strings.NewReader(stdin), Out: &out, Err: &errs, Env: []string{"HOME=" + home}})
	}
	require.Equal(t, 0, do("secret\n", "login", srv.URL))
	st, err := os.Stat(filepath.Join(home, ".config", "panoptes", "login.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	require.Equal(t, 0, do("", "check", "list"))
	require.Equal(t, "Bearer pnk_new", seen)
	require.Equal(t, 0, do("", "--server", other.URL, "check", "list"))
	require.Empty(t, seen, "the key belongs to the other server")
}

// Every command has help, and wrong usage ends with 2.
func TestHelpAndUsage(t *testing.T) {
	never := func(http.ResponseWriter, *http.Request) {}
	for _, c := range []string{"server", "demo", "check", "get", "delete", "apply", "export", "import", "query", "silence", "alerts", "events", "status", "login", "config", "version", "node", "token"} {
		code, out, _ := run(t, never, "", c, "--help")
		require.Equal(t, 0, code, c)
		require.Contains(t, out, "Usage:", c)
	}
	for _, args := range [][]string{{"check", "list", "-o", "xml"}, {"check", "list", "--nonsense"}, {"get", "nonsense"}, {"query", "up", "--from", "soon"}, {"silence", "add", `a="b"`, "--for", "x", "--comment", "c"}} {
		code, _, errs := run(t, never, "", args...)
		require.Equal(t, 2, code, args)
		require.NotEmpty(t, errs)
	}
}
