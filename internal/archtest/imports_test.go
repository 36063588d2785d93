// Package archtest holds the rules about who may import whom, each with its
// reason. It has no code of its own.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "panoptes/"

// The bands, top to bottom. Imports only go down.
var (
	roles = []string{
		"api", "query", "ingest", "scrape", "rules", "probe", "verdict", "alert", "notify", "agent", "hosts", "store", "history", "relay",
		"schedule", "catalog", "control", "cluster", "pki", "replica", "selfwatch", "hosts", "pushgateway", "remote", "auth", "backup", "report", "forecast", "release",
	}
	leaves = []string{"wire", "model", "run"}
)

// engines says which package alone imports a borrowed engine, so that it can be
// replaced, upgraded and reasoned about in one place.
var engines = []struct {
	path   string
	owners []string
	why    string
}{
	{"go.etcd.io/etcd/", []string{"control"}, "consensus has one owner: its failure modes (full disk, damage) are handled there"},
	{"github.com/hashicorp/memberlist", []string{"cluster"}, "gossip has one owner"},
	{"github.com/prometheus/prometheus/tsdb", []string{"store"}, "a commit is only durable through store; a second owner would acknowledge unsafe samples"},
	{"github.com/prometheus/prometheus/web/api/v1", []string{"query", "app"}, "one place answers the Prometheus API with rights and limits; app joins what servers say in its types"},
	{"github.com/prometheus/prometheus/promql", []string{"query", "rules"}, "query limits hold only if nobody evaluates beside them"},
	{"github.com/prometheus/prometheus/storage/remote", []string{"ingest", "query"}, "decoders of strangers' data are bounded in ingest (write) and query (read)"},
	{"github.com/prometheus/prometheus/scrape", []string{"scrape", "query"}, "scraping has one owner; query needs the types of its targets API"},
	{"github.com/prometheus/prometheus/rules", []string{"rules", "query"}, "rules have one owner; query needs the types of its rules API"},
	{"github.com/prometheus/alertmanager/", []string{"alert", "notify"}, "silences, log and dispatcher belong together"},
	{"modernc.org/sqlite", []string{"history"}, "durability of rows depends on its pragmas, set in one place"},
	{"github.com/thanos-io/objstore", []string{"backup"}, "object storage has one owner"},
	{"github.com/spf13/cobra", []string{"cli"}, "only commands know flags"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func load(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	require.NoError(t, err, "go list")
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		pkgs = append(pkgs, p)
	}
	require.NotEmpty(t, pkgs)
	return pkgs
}

// band returns the first path element below internal/, "cmd" for commands.
func band(path string) string {
	rest, ok := strings.CutPrefix(path, module)
	if !ok {
		return ""
	}
	if rest, ok = strings.CutPrefix(rest, "internal/"); !ok {
		first, _, _ := strings.Cut(rest, "/")
		return first
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func in(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func TestImportsGoDown(t *testing.T) {
	for _, p := range load(t) {
		from := band(p.ImportPath)
		for _, imp := range p.Imports {
			to := band(imp)
			if to == "" || to == from {
				continue
			}
			switch {
			case in(leaves, from):
				// model is the bottom; run and wire may use it.
				if to != "model" || from == "model" {
					t.Errorf("%s imports %s: a leaf imports nothing of ours but model, so that everything may import leaves", p.ImportPath, imp)
				}
			case in(roles, from):
				// What a role's tests share is no part of the program.
				if !in(leaves, to) && to != "ui" && (to != "test" || !strings.HasSuffix(p.ImportPath, "test")) {
					t.Errorf("%s imports %s: a role never imports another role or anything above; it declares the small interface it needs and app hands it the object", p.ImportPath, imp)
				}
			case from == "config":
				if !in(leaves, to) {
					t.Errorf("%s imports %s: config is plain data; roles own their own Config", p.ImportPath, imp)
				}
			case from == "app":
				if to == "cli" {
					t.Errorf("%s imports %s: nothing imports cli", p.ImportPath, imp)
				}
			case from == "cmd":
				if to != "cli" && to != "agentcli" {
					t.Errorf("%s imports %s: commands are an exit code and nothing else", p.ImportPath, imp)
				}
			}
			if (to == "cli" && from != "cmd") || (to == "app" && !in([]string{"cli", "test", "bench"}, from)) {
				t.Errorf("%s imports %s: nothing imports %s but what starts a process", p.ImportPath, imp, to)
			}
		}
	}
}

func TestEnginesHaveOneOwner(t *testing.T) {
	for _, p := range load(t) {
		for _, imp := range p.Imports {
			for _, e := range engines {
				if !strings.HasPrefix(imp+"/", strings.TrimSuffix(e.path, "/")+"/") {
					continue
				}
				if !in(e.owners, band(p.ImportPath)) {
					t.Errorf("%s imports %s, which belongs to %s: %s", p.ImportPath, imp, strings.Join(e.owners, ", "), e.why)
				}
			}
		}
	}
}
