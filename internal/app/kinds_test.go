package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Nothing stands above itself: not when it is made, not by a change, and not
// by documents that come together.
func TestCirclesAreRefused(t *testing.T) {
	a, _ := server(t, t.TempDir())
	require.Eventually(t, func() bool {
		code, _ := call(t, a, "GET", "/-/ready", "")
		return code == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond)
	made := func(path, body string) {
		code, answer := call(t, a, "POST", path, body)
		require.Equal(t, http.StatusCreated, code, answer)
	}
	refused := func(method, path, body string) {
		code, answer := call(t, a, method, path, body)
		require.Equal(t, http.StatusBadRequest, code, "%s %s %s", method, path, body)
		require.Contains(t, mustJSON(t, answer), "makes a circle")
	}
	made("/v1/receivers", `{"name":"hook","type":"webhook","webhook":{"url":"http://127.0.0.1:1/"}}`)
	made("/v1/routes", `{"name":"root","receiver":"hook"}`)
	for plural, rest := range map[string]string{"checks": `"type":"tcp","target":"127.0.0.1:1"`, "routes": `"receiver":"hook"`} {
		refused("POST", "/v1/"+plural, `{"name":"x",`+rest+`,"parent":"x"}`)
		above := `}`
		if plural == "routes" {
			above = `,"parent":"root"}`
		}
		made("/v1/"+plural, `{"name":"x",`+rest+above)
		made("/v1/"+plural, `{"name":"y",`+rest+`,"parent":"x"}`)
		refused("PATCH", "/v1/"+plural+"/x", `{"parent":"y"}`)
		refused("PATCH", "/v1/"+plural+"/x", `{"parent":"x"}`)
		kind := plural[:len(plural)-1]
		refused("POST", "/v1/apply", `{"documents":[{"kind":"`+kind+`","name":"a","spec":{`+rest+`,"parent":"b"}},{"kind":"`+kind+`","name":"b","spec":{`+rest+`,"parent":"a"}}]}`)
	}
}

// All records of rules together have no more groups than are evaluated.
func TestRulesBeyondTheLimitAreRefused(t *testing.T) {
	a, _ := server(t, t.TempDir())
	require.Eventually(t, func() bool {
		code, _ := call(t, a, "GET", "/-/ready", "")
		return code == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond)
	record := func(name string, groups int) string {
		var list []string
		for i := range groups {
			list = append(list, fmt.Sprintf(`{"name":"g%d","interval":"1h","rules":[{"record":"r","expr":"1"}]}`, i))
		}
		return `{"name":"` + name + `","disabled":true,"groups":[` + strings.Join(list, ",") + `]}`
	}
	for name, groups := range map[string]int{"a": 600, "b": 401} {
		code, answer := call(t, a, "POST", "/v1/rules", record(name, groups))
		require.Equal(t, http.StatusCreated, code, answer)
	}
	code, answer := call(t, a, "PATCH", "/v1/rules/a", `{"disabled":false}`)
	require.Equal(t, http.StatusOK, code, answer)
	code, answer = call(t, a, "PATCH", "/v1/rules/b", `{"disabled":false}`)
	require.Equal(t, http.StatusBadRequest, code, answer)
	require.Contains(t, mustJSON(t, answer), "all records together would have 1001 groups")
}
