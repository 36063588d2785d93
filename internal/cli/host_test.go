package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hostsOf answers as servers with four hosts, each of which stands otherwise
// about checks, and notes what is changed.
func hostsOf(calls *[]string) http.HandlerFunc {
	rows := map[string]string{
		"both":    `{"id":"1","name":"both","region":"eu","status":"online","checks":true,"checks_allowed":true,"checks_offered":true}`,
		"offers":  `{"id":"2","name":"offers","region":"eu","status":"online","checks_offered":true}`,
		"allowed": `{"id":"3","name":"allowed","region":"eu","status":"online","checks_allowed":true}`,
		"none":    `{"id":"4","name":"none","region":"eu","status":"online"}`,
	}
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodGet {
			*calls = append(*calls, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		}
		name := strings.TrimPrefix(r.URL.Path, "/v1/hosts/")
		switch {
		case r.URL.Path == "/v1/hosts":
			_, _ = io.WriteString(w, `{"items":[`+rows["both"]+","+rows["offers"]+","+rows["allowed"]+","+rows["none"]+`],"next":""}`)
		case rows[name] != "":
			_, _ = io.WriteString(w, rows[name])
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":{"code":"not_found","message":"host not found"}}`)
		}
	}
}

func TestHostsThatRunChecks(t *testing.T) {
	var calls []string
	serve := hostsOf(&calls)
	do := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := run(t, serve, "", append([]string{"host"}, args...)...)
		require.Equal(t, want, code, errs)
		return out + errs
	}
	list := do(0, "list")
	require.Regexp(t, `NAME .* CHECKS `, list)
	for name, word := range map[string]string{"both": "yes", "offers": "offered", "allowed": "allowed", "none": "-"} {
		require.Regexp(t, `(?m)^`+name+` .* 0 +`+word+` +- +-`, list)
	}
	require.Contains(t, do(0, "show", "both"), "yes")
	require.Contains(t, do(0, "show", "offers"), "its agent offers to, the servers do not allow it")
	require.Contains(t, do(0, "show", "allowed"), "its agent does not offer it")
	var items []map[string]any
	require.NoError(t, json.Unmarshal([]byte(do(0, "list", "-o", "json")), &items))
	require.Equal(t, true, items[1]["checks_offered"])

	require.Equal(t, "both may run checks of the region eu\n", do(0, "checks", "both", "on"))
	require.Contains(t, do(0, "checks", "allowed", "on"), "does not offer it yet")
	require.Equal(t, "both may not run checks of the region eu any more\n", do(0, "checks", "both", "off"))
	require.Contains(t, do(2, "checks", "both", "perhaps"), "say on or off")
	require.NotZero(t, do(1, "checks", "gone", "on"))
	var answer map[string]any
	require.NoError(t, json.Unmarshal([]byte(do(0, "checks", "both", "on", "-o", "json")), &answer))
	require.Equal(t, true, answer["checks_allowed"])
	require.Equal(t, []string{
		`PATCH /v1/hosts/both {"checks":true}`, `PATCH /v1/hosts/allowed {"checks":true}`, `PATCH /v1/hosts/both {"checks":false}`, `PATCH /v1/hosts/gone {"checks":true}`, `PATCH /v1/hosts/both {"checks":true}`,
	}, calls)
}

func TestTokensOfHostsThatRunChecks(t *testing.T) {
	var asked map[string]any
	var sent map[string]any
	serve := func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/tokens":
			_ = json.NewDecoder(r.Body).Decode(&sent)
			_, _ = io.WriteString(w, `{"id":"T1","role":"agent","region":"eu","checks":true,"uses":100,"token":"pnp1.h.T1.s"}`)
		case "GET /v1/tokens":
			_, _ = io.WriteString(w, `{"items":[{"id":"T1","role":"agent","region":"eu","checks":true,"expired":true,"uses":3}]}`)
		case "POST /v1/agent-install":
			require.Empty(t, r.URL.RawQuery, "a token is in no address")
			_ = json.NewDecoder(r.Body).Decode(&asked)
			_, _ = io.WriteString(w, `{"linux":"sh install.sh --checks"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
	code, out, errs := run(t, serve, "", "token", "create", "--role", "agent", "--region", "eu", "--checks")
	require.Zero(t, code, errs)
	require.Equal(t, map[string]any{"role": "agent", "region": "eu", "checks": true}, sent)
	require.Equal(t, map[string]any{"token": "pnp1.h.T1.s", "region": "eu", "checks": true}, asked)
	require.Contains(t, out, "sh install.sh --checks")
	require.Contains(t, out, "in the region eu, with the checks of that region")
	_, out, _ = run(t, serve, "", "token", "list")
	require.Regexp(t, `T1 +agent +eu +yes +expired +3 +0`, out)
	_, out, _ = run(t, serve, "", "token", "list", "-o", "json")
	require.Contains(t, out, `"checks": true`)

	// A server that offers no agents: the line by hand switches checks on, too.
	_, out, _ = run(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agent-install" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		serve(w, r)
	}, "", "token", "create", "--role", "agent", "--region", "eu", "--checks")
	require.Contains(t, out, "panoptes-agent --region eu --join HOST:9701 --token pnp1.h.T1.s --checks")

	sent = nil
	for _, args := range [][]string{{"--region", "eu", "--checks"}, {"--role", "agent", "--checks"}} {
		code, _, errs := run(t, serve, "", append([]string{"token", "create"}, args...)...)
		require.Equal(t, 2, code)
		require.Contains(t, errs, "--checks")
	}
	require.Nil(t, sent, "no token was made")
}
