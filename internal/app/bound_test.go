package app_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
)

// callAs is call with another key or with a user's name and password.
func callAs(t *testing.T, a *app.App, auth func(*http.Request), method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, a.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	auth(req)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}

// Who is bound to labels sees, changes and writes only what has them; whatever
// is not made for that is closed.
func TestBoundToLabels(t *testing.T) {
	a, _ := server(t, t.TempDir())
	require.Eventually(t, func() bool {
		code, _ := call(t, a, "GET", "/v1/me", "")
		return code == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond)
	code, body := call(t, a, "POST", "/v1/keys", `{"name":"a","role":"editor","matchers":["team=\"a\""]}`)
	require.Equal(t, http.StatusCreated, code, body)
	secret, _ := body["key"].(string)
	bound := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }
	as := func(method, path, in string) (int, string) { return callAs(t, a, bound, method, path, in) }

	code, body = call(t, a, "POST", "/v1/keys", `{"name":"root","role":"admin","matchers":["team=\"a\""]}`)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, mustJSON(t, body), `"field":"matchers"`)
	code, body = call(t, a, "POST", "/v1/keys", `{"name":"re","role":"viewer","matchers":["team=~\"a|b\""]}`)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, mustJSON(t, body), "matchers[0]")

	// Written series get the label, whatever they say.
	for team, write := range map[string]func(method, path, in string) (int, string){
		"a": as,
		"b": func(method, path, in string) (int, string) {
			return callAs(t, a, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }, method, path, in)
		},
	} {
		code, out := write("POST", "/metrics/job/batch/team/"+team, "runs 1\n")
		require.Less(t, code, 300, out)
	}
	code, out := as("POST", "/metrics/job/thief/team/b", "stolen 1\n")
	require.GreaterOrEqual(t, code, 400, "a group of another team: %s", out)

	count := func(query string) string {
		code, out := as("GET", "/api/v1/query?query="+url.QueryEscape(query), "")
		require.Equal(t, http.StatusOK, code, out)
		return out
	}
	require.Eventually(t, func() bool { return strings.Contains(count(`runs`), `"team":"a"`) }, 30*time.Second, 50*time.Millisecond)
	require.NotContains(t, count(`runs`), `"team":"b"`)
	require.NotContains(t, count(`{team="b"}`), `"metric"`)
	require.NotContains(t, count(`count({__name__=~"panoptes_.+"})`), `"value"`, "the server's own series are nobody's")

	// Checks.
	code, _ = call(t, a, "POST", "/v1/checks", `{"name":"theirs","type":"http","target":"http://127.0.0.1:1/","labels":{"team":"b"}}`)
	require.Equal(t, http.StatusCreated, code)
	code, out = as("POST", "/v1/checks", `{"name":"ours","type":"http","target":"http://127.0.0.1:1/","interval":"1s","timeout":"500ms"}`)
	require.Equal(t, http.StatusCreated, code, out)
	require.Contains(t, out, `"team":"a"`)
	code, out = as("POST", "/v1/checks", `{"name":"more","type":"http","target":"http://127.0.0.1:1/","labels":{"team":"b"}}`)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, out, "labels.team")
	_, out = as("GET", "/v1/checks", "")
	require.Contains(t, out, `"ours"`)
	require.NotContains(t, out, `"theirs"`)
	for _, c := range []struct{ method, path, in string }{
		{"GET", "/v1/checks/theirs", ""}, {"DELETE", "/v1/checks/theirs", ""}, {"PATCH", "/v1/checks/theirs", `{"paused":true}`},
		{"PUT", "/v1/checks/theirs", `{"name":"theirs","type":"http","target":"http://127.0.0.1:1/"}`},
		{"POST", "/v1/checks/theirs/run", ""}, {"GET", "/v1/checks/theirs/uptime", ""},
	} {
		code, out := as(c.method, c.path, c.in)
		require.Equal(t, http.StatusNotFound, code, "%s %s: %s", c.method, c.path, out)
	}
	code, out = as("PATCH", "/v1/checks/ours", `{"labels":{"team":null}}`)
	require.Equal(t, http.StatusBadRequest, code, out)
	code, out = as("PATCH", "/v1/checks/ours", `{"labels":{"tier":"1"}}`)
	require.Equal(t, http.StatusOK, code, out)
	require.Contains(t, out, `"team":"a"`)

	// Alerts, events and silences.
	require.Eventually(t, func() bool {
		_, list := call(t, a, "GET", "/v1/alerts?q=alertname%3D~Check.*", "")
		items, _ := list["items"].([]any)
		return len(items) == 2
	}, 60*time.Second, 50*time.Millisecond, "both checks are down")
	_, out = as("GET", "/v1/alerts", "")
	require.Contains(t, out, `"ours"`)
	require.NotContains(t, out, `"theirs"`)
	_, out = as("GET", "/v1/overview", "")
	require.Contains(t, out, `"ours"`)
	require.NotContains(t, out, `"theirs"`)
	_, out = as("GET", "/v1/events", "")
	require.NotContains(t, out, `"theirs"`)
	ends := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	code, out = as("POST", "/v1/silences", `{"matchers":["alertname=~\".+\""],"ends_at":"`+ends+`"}`)
	require.Equal(t, http.StatusCreated, code, out)
	require.Contains(t, out, `team=\"a\"`)
	code, out = as("POST", "/v1/silences", `{"matchers":["team=\"b\""],"ends_at":"`+ends+`"}`)
	require.Equal(t, http.StatusBadRequest, code, out)
	code, all := call(t, a, "POST", "/v1/silences", `{"matchers":["team=\"b\""],"ends_at":"`+ends+`"}`)
	require.Equal(t, http.StatusCreated, code)
	id, _ := all["id"].(string)
	code, _ = as("DELETE", "/v1/silences/"+id, "")
	require.Equal(t, http.StatusNotFound, code)
	_, out = as("GET", "/v1/silences", "")
	require.NotContains(t, out, id)

	// Rules.
	group := `{"name":"g","interval":"1s","rules":[{"record":"double","expr":"runs * 2"},{"alert":"Ran","expr":"runs > 0"}]}`
	code, _ = call(t, a, "POST", "/v1/rules", `{"name":"everybody","groups":[{"name":"x","rules":[{"alert":"Foreign","expr":"vector(1)"}]}]}`)
	require.Equal(t, http.StatusCreated, code)
	code, out = as("POST", "/v1/rules", `{"name":"mine","groups":[`+group+`]}`)
	require.Equal(t, http.StatusCreated, code, out)
	require.Contains(t, out, `"matchers":["team=\"a\""]`)
	code, out = as("POST", "/v1/rules", `{"name":"more","matchers":["team=\"b\""],"groups":[`+group+`]}`)
	require.Equal(t, http.StatusBadRequest, code, out)
	code, out = as("PATCH", "/v1/rules/mine", `{"matchers":[]}`)
	require.Equal(t, http.StatusOK, code, out)
	require.Contains(t, out, `"matchers":["team=\"a\""]`, "they are put back")
	_, out = as("GET", "/v1/rules", "")
	require.Contains(t, out, `"mine"`)
	require.NotContains(t, out, `"everybody"`)
	code, _ = as("GET", "/v1/rules/everybody/versions", "")
	require.Equal(t, http.StatusNotFound, code)
	for _, path := range []string{"/api/v1/rules", "/v1/rule-groups"} {
		require.Eventually(t, func() bool { _, out = as("GET", path, ""); return strings.Contains(out, `"Ran"`) }, 30*time.Second, 50*time.Millisecond)
		require.NotContains(t, out, "Foreign")
	}
	require.Eventually(t, func() bool { return strings.Contains(count(`double`), `"value"`) }, 20*time.Second, 100*time.Millisecond)
	require.NotContains(t, count(`double`), `"team":"b"`)
	_, all = call(t, a, "GET", "/api/v1/query?query=double", "")
	require.NotContains(t, mustJSON(t, all), `"team":"b"`, "the rule saw one team only")
	code, out = as("POST", "/v1/rules/try", `{"group":`+group+`,"range":"1h"}`)
	require.Equal(t, http.StatusOK, code, out)
	require.NotContains(t, out, `"team":"b"`)

	// The rest.
	for _, path := range []string{"/v1/receivers", "/v1/scrapes", "/v1/nodes", "/v1/export", "/v1/settings", "/api/v2/alerts", "/api/v1/targets", "/v1/cluster"} {
		code, out := as("GET", path, "")
		require.Equal(t, http.StatusForbidden, code, "%s: %s", path, out)
	}
	code, out = as("POST", "/v1/apply", `{"docs":[]}`)
	require.Equal(t, http.StatusForbidden, code, out)

	// A user is bound as well, and sessions end when that changes.
	code, _ = call(t, a, "POST", "/v1/users", `{"name":"bob","role":"viewer","password":"a long enough password","matchers":["team=\"b\""]}`)
	require.Equal(t, http.StatusCreated, code)
	bob := func(r *http.Request) { r.SetBasicAuth("bob", "a long enough password") }
	code, out = callAs(t, a, bob, "GET", "/v1/checks", "")
	require.Equal(t, http.StatusOK, code, out)
	require.Contains(t, out, `"theirs"`)
	require.NotContains(t, out, `"ours"`)
	_, out = callAs(t, a, bob, "GET", "/v1/me", "")
	var me struct {
		User struct{ Bound map[string]string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &me))
	require.Equal(t, map[string]string{"team": "b"}, me.User.Bound)
}
