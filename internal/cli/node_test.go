package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const nodesJSON = `{"items":[
 {"id":"A","name":"n1","role":"server","region":"eu","labels":{},"version":"1.2","addresses":{"cluster":"10.0.0.1:9701"},"state":"alive","since":"2026-01-01T00:00:00Z","self":true,
  "control":"leader","load":0.25,"health":{"status":"ok","score":97},"views":{"n2":"alive","n3":"suspect"},"relay":[{"to":"n3","bytes":2500000,"oldest":"2026-01-01T00:00:00Z","connected":false,"error":"refused"}],
  "copy":{"copying":false,"complete":true,"last_check":null},"checks":12},
 {"id":"B","name":"n2\u001b[2J","role":"server","region":"us","state":"alive","control":"voter","load":1,"behind":true,"draining":true,"copy":{"copying":true,"source":"n1","done":5,"total":10},"checks":0},
 {"id":"C","name":"n3","role":"witness","region":"c","state":"dead","since":"2026-01-01T00:00:00Z","control":"none","checks":0}]}`

const clusterJSON = `{"id":"X","self":"n1","leader":"n1","writable":true,"reason":"","quorum":2,"voters":3,"split":false,"advice":[{"code":"c","message":"do something"}]}`

// remote answers the cluster's routes and notes what else it is sent.
type remote struct {
	mu    sync.Mutex
	calls []string
}

func (s *remote) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.Method != http.MethodGet {
		s.mu.Lock()
		s.calls = append(s.calls, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		s.mu.Unlock()
	}
	answers := map[string]string{
		"GET /v1/nodes": nodesJSON, "GET /v1/cluster": clusterJSON,
		"GET /api/health":            `{"status":"warning","score":70,"levels":{"L1":{"status":"ok","parts":[{"name":"process","status":"ok","message":"runs"}]}}}`,
		"POST /v1/cluster/check":     `{"windows":12,"mismatches":2,"repaired":1,"seconds":1.5}`,
		"GET /v1/cluster/ca":         `{"roots":[{"subject":"CN=root","not_after":"2036-01-01T00:00:00Z","key_hash":"abc","current":true}],"state":"rotating","ready":true}`,
		"POST /v1/cluster/ca/finish": `{"roots":[],"state":"stable"}`,
		"POST /v1/agent-install":     `{"linux":"get T | sh","openrc":"get T | sh","docker":"docker run T","kubernetes":"kind: DaemonSet","windows":"Invoke T","warning":"loopback only"}`,
		"GET /v1/tokens":             `{"items":[{"id":"T1","role":"agent","region":"","expires":"2026-01-01T00:00:00Z","uses":3,"used":["A","B"],"expired":true}]}`,
	}
	key := r.Method + " " + r.URL.Path
	switch {
	case key == "POST /v1/tokens":
		var b map[string]any
		_ = json.Unmarshal(body, &b)
		region, _ := b["region"].(string)
		out := map[string]any{"id": "T1", "role": b["role"], "region": region, "expires": "2026-01-01T00:00:00Z", "uses": 1, "token": "pnp1.h.T1.s"}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(out)
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/nodes/n1"):
		var l struct{ Items []json.RawMessage }
		_ = json.Unmarshal([]byte(nodesJSON), &l)
		_, _ = w.Write(l.Items[0])
	case strings.HasPrefix(r.URL.Path, "/v1/nodes/n9"):
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"error":{"code":"conflict","message":"drain and stop it first, or use force"}}`)
	case answers[key] != "":
		_, _ = io.WriteString(w, answers[key])
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = io.WriteString(w, "{}")
	}
}

// Who is waited for while the authority changes is named.
func TestWhoIsWaitedFor(t *testing.T) {
	_, out, _ := run(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"roots":[],"state":"rotating","waiting":["n2","n3"]}`)
	}, "", "node", "ca", "status")
	require.Contains(t, out, "not followed yet: n2, n3\nstart them; remove one that is gone, or that never finished joining")
}

func TestTokenCommands(t *testing.T) {
	s := &remote{}
	code, out, _ := run(t, s.ServeHTTP, "", "token", "create", "--region", "far east")
	require.Zero(t, code)
	require.Contains(t, out, "pnp1.h.T1.s\n")
	require.Contains(t, out, "panoptes server --node NAME --region 'far east' --data-dir /var/lib/panoptes --bind ADDRESS --join 10.0.0.1:9701 --token pnp1.h.T1.s")
	_, out, _ = run(t, s.ServeHTTP, "", "token", "create", "--role", "witness", "--ttl", "10m", "--uses", "2")
	require.Contains(t, out, "panoptes server --witness --node NAME --region REGION")
	code, out, _ = run(t, s.ServeHTTP, "", "token", "create", "--quiet")
	require.Zero(t, code)
	require.Equal(t, "pnp1.h.T1.s\n", out, "nothing else, for scripts")
	_, out, _ = run(t, s.ServeHTTP, "", "token", "create", "-o", "json", "--role", "agent")
	var made map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	require.Equal(t, made["command"], "get T | sh")
	_, out, _ = run(t, s.ServeHTTP, "", "token", "list")
	require.Regexp(t, `T1 +agent +\* +- +expired +3 +2`, out)
	code, _, _ = run(t, s.ServeHTTP, "", "token", "revoke", "T1", "T2")
	require.Zero(t, code)
	require.Equal(t, []string{
		`POST /v1/tokens {"region":"far east","role":"server"}`, `POST /v1/tokens {"role":"witness","ttl":"10m","uses":2}`,
		`POST /v1/tokens {"role":"server"}`, `POST /v1/tokens {"role":"agent"}`,
		`POST /v1/agent-install {"checks":false,"region":"","token":"pnp1.h.T1.s"}`, "DELETE /v1/tokens/T1", "DELETE /v1/tokens/T2",
	}, s.calls)
}

func TestLinesOfAgents(t *testing.T) {
	s := &remote{}
	for target, want := range map[string]string{"": "get T | sh", "linux": "get T | sh", "openrc": "get T | sh", "docker": "docker run T", "kubernetes": "kind: DaemonSet", "windows": "Invoke T"} {
		code, out, errs := run(t, s.ServeHTTP, "", "token", "create", "--role", "agent", "--for", target)
		require.Zero(t, code)
		require.Contains(t, out, "pnp1.h.T1.s\n")
		require.Contains(t, out, want)
		require.Contains(t, errs, "Warning: loopback only", "beside the output, which may be piped")
	}
	_, out, _ := run(t, s.ServeHTTP, "", "token", "create", "--role", "agent", "--for", "kubernetes", "--quiet")
	require.Equal(t, "kind: DaemonSet\n", out)
	made := len(s.calls)
	code, _, errs := run(t, s.ServeHTTP, "", "token", "create", "--role", "agent", "--for", "cpm")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "kubernetes")
	code, _, errs = run(t, s.ServeHTTP, "", "token", "create", "--for", "docker")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "--role agent")
	require.Len(t, s.calls, made, "no token was made")
	// A server that offers no agents: the token is not lost.
	code, out, _ = run(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agent-install" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		s.ServeHTTP(w, r)
	}, "", "token", "create", "--role", "agent")
	require.Zero(t, code)
	require.Contains(t, out, "panoptes-agent --region REGION --join 10.0.0.1:9701 --token pnp1.h.T1.s")
}

func TestSigningAgents(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(t.TempDir(), "key")
	local := func(args ...string) (int, string, string) {
		return run(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, "", append([]string{"agent"}, args...)...)
	}
	code, out, _ := local("keygen", key)
	require.Zero(t, code)
	require.Contains(t, out, "enabled: true\n  key: ")
	info, err := os.Stat(key)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	code, _, errs := local("keygen", key)
	require.Equal(t, 2, code)
	require.Contains(t, errs, "not overwritten")
	code, _, errs = local("sign", "--key", key, dir)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "make agents")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "panoptes-agent-linux-amd64"), []byte("program"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "VERSION"), []byte("v1.4.0-2-gabcdef0\n"), 0o644))
	code, out, errs = local("sign", "--key", key, dir)
	require.Zero(t, code, errs)
	require.Equal(t, "signed version v1.4.0-2-gabcdef0 for linux/amd64\n", out)
	code, _, errs = local("sign", dir)
	require.Equal(t, 2, code)
	require.Contains(t, errs, "keygen")
	code, _, errs = local("--nonsense")
	require.Equal(t, 2, code, "the agent's own options")
	require.Contains(t, errs, "nonsense")
}

// A token is shown even when nobody tells the address of the servers.
func TestTokenIsNotLost(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, `{"id":"T1","role":"server","token":"pnp1.h.T1.s","uses":1}`)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}
	code, out, _ := run(t, h, "", "token", "create")
	require.Zero(t, code)
	require.Contains(t, out, "--join HOST:9701 --token pnp1.h.T1.s")
}

func TestNodeCommands(t *testing.T) {
	s := &remote{}
	code, out, _ := run(t, s.ServeHTTP, "", "node", "list")
	require.Zero(t, code)
	require.Regexp(t, `n1 +server +eu +alive +leader +1\.2 +25 % +2\.5 MB +97 +12 +asked, does not see n3`, out)
	require.Regexp(t, `draining, behind, copying 50 % from n1`, out)
	require.Regexp(t, `n3 +witness +c +dead .*dead for`, out)
	require.NotContains(t, out, "\x1b")
	_, out, _ = run(t, s.ServeHTTP, "", "node", "show", "n1")
	for _, want := range []string{"10.0.0.1:9701", "score 97 of 100", "refused", "suspect"} {
		require.Contains(t, out, want)
	}
	_, out, _ = run(t, s.ServeHTTP, "", "node", "list", "-o", "json")
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	require.Len(t, list, 3)

	for _, args := range [][]string{{"drain", "n2", "n3"}, {"drain", "n2", "--undo"}, {"promote", "n3"}, {"leader", "n 2"}, {"remove", "n3", "--yes", "--force"}, {"ca", "rotate"}, {"ca", "finish", "-y"}} {
		code, _, errs := run(t, s.ServeHTTP, "", append([]string{"node"}, args...)...)
		require.Zero(t, code, "%s %s", args, errs)
	}
	require.Equal(t, []string{
		`POST /v1/nodes/n2/drain {"draining":true}`, `POST /v1/nodes/n3/drain {"draining":true}`, `POST /v1/nodes/n2/drain {"draining":false}`,
		"POST /v1/nodes/n3/promote", "POST /v1/nodes/n%202/leader", "DELETE /v1/nodes/n3?force=true", "POST /v1/cluster/ca/rotate", "POST /v1/cluster/ca/finish",
	}, s.calls)
	s.calls = nil

	code, _, errs := run(t, s.ServeHTTP, "", "node", "remove", "n9", "--yes")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "drain and stop it first")
	code, out, _ = run(t, s.ServeHTTP, "", "node", "check")
	require.Equal(t, 1, code, "something stayed different")
	require.Contains(t, out, "12 windows compared in 1.5 s: 2 differed, 1 repaired")
	_, out, _ = run(t, s.ServeHTTP, "", "node", "ca", "status")
	require.Contains(t, out, "ready: end it with `panoptes node ca finish`")

	s.calls = nil
	for _, args := range [][]string{{"remove", "n3"}, {"ca", "finish"}} {
		for _, answer := range []string{"n\n", "", "\n"} {
			code, _, errs = run(t, s.ServeHTTP, answer, append([]string{"node"}, args...)...)
			require.Equal(t, 1, code)
			require.Contains(t, errs, "--yes")
		}
	}
	require.Empty(t, s.calls, "nothing is done without a yes")
	code, _, _ = run(t, s.ServeHTTP, "y\n", "node", "remove", "n3")
	require.Zero(t, code)
	require.Equal(t, []string{"DELETE /v1/nodes/n3"}, s.calls)
}

func TestStatusOfACluster(t *testing.T) {
	s := &remote{}
	code, out, _ := run(t, s.ServeHTTP, "", "status")
	require.Equal(t, 1, code)
	for _, want := range []string{"warning, score 70 of 100, L1 ok", "configuration can be changed; n1 leads, 2 of 3 voters", "advice: do something", "witness"} {
		require.Contains(t, out, want)
	}
	_, out, _ = run(t, s.ServeHTTP, "", "status", "-o", "json")
	var all struct {
		Status  string
		Cluster struct{ Leader string }
		Nodes   []struct{ Name string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &all))
	require.Equal(t, "warning", all.Status)
	require.Equal(t, "n1", all.Cluster.Leader)
	require.Len(t, all.Nodes, 3)

	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/cluster" {
			_, _ = io.WriteString(w, `{"writable":false,"reason":"1 of 3 voters answers, 2 are needed","split":true}`)
			return
		}
		s.ServeHTTP(w, r)
	}
	_, out, _ = run(t, h, "", "status")
	require.Contains(t, out, "configuration CANNOT be changed here: 1 of 3 voters answers, 2 are needed; watching and warning go on")
	require.Contains(t, out, "NOT ALL SERVERS ARE REACHED")

}
