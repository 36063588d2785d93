package app_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What one rule raises and nobody takes, or what is long, does not keep the
// alerts of other rules from the other servers.
func TestAlertsReachAllServersDespiteRefusedOnes(t *testing.T) {
	c := grow(t, "eu", "eu")
	rule := func(name, field, text string) string {
		return fmt.Sprintf(`{"alert":%q,"expr":"vector(1)",%q:{"text":%q}}`, name, field, text)
	}
	body := `{"name":"mixed","groups":[{"name":"g","interval":"1s","rules":[` +
		rule("Endless", "labels", `{{ printf "%300000d" 1 }}`) + "," +
		rule("Long", "annotations", `{{ printf "%100000d" 1 }}`) + "," +
		rule("Short", "annotations", "short") + `]}]}`
	code, got := call(t, c[0].app, "POST", "/v1/rules", body)
	require.Equal(t, http.StatusCreated, code, mustJSON(t, got))
	for _, m := range c {
		require.Eventually(t, func() bool {
			_, list := call(t, m.app, "GET", "/v1/alerts", "")
			names := map[string]bool{}
			items, _ := list["items"].([]any)
			for _, i := range items {
				labels, _ := i.(map[string]any)["labels"].(map[string]any)
				name, _ := labels["alertname"].(string)
				names[name] = true
			}
			return names["Long"] && names["Short"] && !names["Endless"]
		}, 30*time.Second, 200*time.Millisecond, "%s has the alerts that can be taken", m.cfg.Node)
	}
}
