package scrape_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, docs []model.Document, notes []string) {
	var b bytes.Buffer
	for _, d := range docs {
		text, err := d.YAML()
		require.NoError(t, err)
		fmt.Fprintf(&b, "---\n%s", text)
	}
	b.WriteString("=== notes\n" + strings.Join(notes, "\n") + "\n")
	file := filepath.Join("testdata", "import", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

func TestImportTakesOverOrListsEverything(t *testing.T) {
	for _, name := range []string{"full", "operator"} {
		yml, err := os.ReadFile("testdata/import/" + name + ".yml")
		require.NoError(t, err)
		docs, notes, err := scrape.ImportPrometheus(yml)
		require.NoError(t, err)
		golden(t, name, docs, notes)
		all := strings.Join(notes, "\n")
		require.NotContains(t, all, "hunter2", "notes never hold secrets")
		for _, d := range docs {
			again, err := scrape.Normalize(d.Spec, nil)
			require.NoError(t, err, d.Name)
			require.JSONEq(t, string(d.Spec), string(again))
			require.Equal(t, string(d.Spec), string(again), "the form is canonical")
		}
	}
}

func TestImportReadsOtherFiles(t *testing.T) {
	yml, err := os.ReadFile("testdata/import/files.yml")
	require.NoError(t, err)
	files := map[string]map[string][]byte{
		"/conf/rules/*.yml": {
			"/conf/rules/a.yml": []byte("groups: [{name: g, rules: [{record: r, expr: vector(1.50), labels: {v: 1.10}}]}, {name: h, interval: 5s, rules: []}]"),
			"/conf/rules/b.yml": []byte("groups: {"),
		},
		"/conf/jobs.yml": {"/conf/jobs.yml": []byte("scrape_configs: [{job_name: j, file_sd_configs: [{files: [t.json]}]}]\nother: 1")},
	}
	docs, notes, err := scrape.Importer{Dir: "/conf", Read: func(p string) (map[string][]byte, error) { return files[p], nil }}.Import(yml)
	require.NoError(t, err)
	golden(t, "files", docs, notes)
}

func TestImportRefusesWhatIsNoPrometheusFile(t *testing.T) {
	for text, want := range map[string]string{
		"":             "is empty",
		"- a":          "must be a mapping",
		"a: [":         "not valid YAML",
		"a: 1\na: 2":   "is there twice",
		"a: 1\n---\nb": "more than one YAML document",
	} {
		_, _, err := scrape.ImportPrometheus([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		prev := string(c - 1)
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ","))
	}
	_, _, err := scrape.ImportPrometheus([]byte(bomb))
	require.ErrorContains(t, err, "too large")
}

func FuzzImport(f *testing.F) {
	for _, name := range []string{"full", "files"} {
		b, err := os.ReadFile("testdata/import/" + name + ".yml")
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte("scrape_configs: [{job_name: a, static_configs: [{targets: [b]}]}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, _, err := scrape.ImportPrometheus(b)
		if err != nil {
			return
		}
		for _, d := range docs {
			spec, err := scrape.Normalize(d.Spec, nil)
			require.NoError(t, err, "what the import makes can be applied")
			require.Equal(t, string(d.Spec), string(spec))
		}
	})
}

func FuzzNormalize(f *testing.F) {
	f.Add([]byte(`{"name":"a","config":{"static_configs":[{"targets":["a:1"]}],"basic_auth":{"username":"u","password":"p"}}}`))
	f.Add([]byte(`{"name":"a","config":"static_configs: [{targets: [a]}]\nscrape_interval: 5s","regions":["eu"],"per_region":true}`))
	f.Add([]byte(`{"name":"a","config":{"kubernetes_sd_configs":[{"role":"pod","namespaces":{"names":["x"]}}],"relabel_configs":[{"action":"hashmod","modulus":2,"target_label":"x"}]}}`))
	f.Add([]byte(`{"name":"a","config":{"consul_sd_configs":[null],"docker_sd_configs":[{}],"dns_sd_configs":[{"names":["x"],"type":"A","port":1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		spec, err := scrape.Normalize(b, nil)
		if err != nil {
			return
		}
		again, err := scrape.Normalize(spec, nil)
		require.NoError(t, err)
		require.Equal(t, string(spec), string(again), "normalizing twice changes nothing")
		scrape.Secrets(spec)
	})
}

// Whatever a collector asks with, it gets its targets or is told what is wrong.
func FuzzSD(f *testing.F) {
	s, _ := start(f, scrape.Config{}, scrape.Deps{Appendable: openDB(f)})
	s.Update([]model.Record{record(f, "j", "{scrape_interval: 1h, static_configs: [{targets: ['127.0.0.1:1']}]}")})
	h := s.SD()
	ask := func(query string) int {
		r := httptest.NewRequest(http.MethodGet, "/v1/sd", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	within(f, 10*time.Second, func() bool { return ask("shard=a&shards=a") == http.StatusOK })
	f.Add("shard=a&shards=a,b&job=j")
	f.Add("host=%00&hosts=%00,,,&job=no&job=j")
	f.Add(strings.Repeat("shards=a,b,c&", 1000) + "shard=a")
	f.Fuzz(func(t *testing.T, query string) {
		require.Contains(t, []int{200, 400, 404}, ask(query))
	})
}
