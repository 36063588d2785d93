package notify_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/notify"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// minimal has the least of every type that works.
var minimal = map[string]string{
	"webhook":    `{"url":"https://hook.example/x"}`,
	"email":      `{"to":"a@example.com","from":"b@example.com","smarthost":"smtp.example.com:587"}`,
	"slack":      `{"api_url":"https://hooks.slack.example/services/T/B/secret"}`,
	"telegram":   `{"bot_token":"123:secret","chat_id":-1001234567890}`,
	"wechat":     `{"corp_id":"c","agent_id":"1","api_secret":"secret","to_user":"@all"}`,
	"discord":    `{"webhook_url":"https://discord.example/api/webhooks/1/secret"}`,
	"msteamsv2":  `{"webhook_url":"https://teams.example/secret"}`,
	"msteams":    `{"webhook_url":"https://teams.example/secret"}`,
	"pagerduty":  `{"routing_key":"secret"}`,
	"opsgenie":   `{"api_key":"secret"}`,
	"pushover":   `{"user_key":"secret","token":"secret"}`,
	"victorops":  `{"api_key":"secret","routing_key":"team"}`,
	"sns":        `{"topic_arn":"arn:aws:sns:eu-west-1:1:t","sigv4":{"region":"eu-west-1","access_key":"AK","secret_key":"secret"}}`,
	"webex":      `{"room_id":"r","http_config":{"authorization":{"type":"Bearer","credentials":"secret"}}}`,
	"jira":       `{"api_url":"https://x.atlassian.example/rest/api/3","project":"OPS","issue_type":"Bug","http_config":{"basic_auth":{"username":"u","password":"secret"}}}`,
	"incidentio": `{"url":"https://api.incident.example/v2/x","alert_source_token":"secret"}`,
	"rocketchat": `{"token_id":"secret","token":"secret","channel":"#ops"}`,
	"mattermost": `{"webhook_url":"https://mm.example/hooks/secret"}`,
}

func receiver(t testing.TB, typ, block string) model.Receiver {
	var r model.Receiver
	require.NoError(t, json.Unmarshal([]byte(`{"name":"r","type":"`+typ+`","`+typ+`":`+block+`}`), &r))
	return r
}

func newNotify(t testing.TB, deps notify.Deps) *notify.Notify {
	n, err := notify.New(notify.Config{ExternalURL: "https://panoptes.example/"}, deps)
	require.NoError(t, err)
	return n
}

func TestEveryTypeIsBuiltFromALittle(t *testing.T) {
	n := newNotify(t, notify.Deps{})
	require.Len(t, notify.Types, 18)
	for _, typ := range notify.Types {
		t.Run(typ, func(t *testing.T) {
			block, ok := minimal[typ]
			require.True(t, ok)
			_, built, err := n.Build(receiver(t, typ, block))
			require.NoError(t, err)
			require.Len(t, built, 1)
			require.Equal(t, typ, built[0].Name())
			// A list of blocks, and a further type beside it.
			r := receiver(t, typ, "["+block+","+block+"]")
			other := "webhook"
			if typ == other {
				other = "discord"
			}
			r.More = map[string]json.RawMessage{other: json.RawMessage(minimal[other])}
			_, built, err = n.Build(r)
			require.NoError(t, err)
			require.Len(t, built, 3)
			// A field that does not exist is named.
			_, _, err = n.Build(receiver(t, typ, strings.Replace(block, "{", `{"surprise":1,`, 1)))
			require.Equal(t, []string{typ + ".surprise"}, fields(t, err))
			// An empty block says what is missing, in the block.
			_, _, err = n.Build(receiver(t, typ, `{}`))
			for _, f := range fields(t, err) {
				require.True(t, f == typ || strings.HasPrefix(f, typ+"."), "%s: %v", f, err)
			}
		})
	}
}

func fields(t *testing.T, err error) []string {
	t.Helper()
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	out := make([]string, len(inv))
	for i, f := range inv {
		out[i] = f.Field
		require.NotEmpty(t, f.Msg)
	}
	return out
}

func TestFaultsNameTheField(t *testing.T) {
	n := newNotify(t, notify.Deps{})
	f := func(typ, block string, want ...string) {
		t.Helper()
		err := n.Validate(receiver(t, typ, block))
		if diff := cmp.Diff(want, fields(t, err)); diff != "" {
			t.Errorf("%s %s: fields (-want +got):\n%s\n%v", typ, block, diff, err)
		}
	}
	f("webhook", `{}`, "webhook.url")
	f("webhook", `{"url":"nonsense"}`, "webhook.url")
	f("webhook", `{"url":"ftp://x.example"}`, "webhook.url")
	f("webhook", `{"url":"https://x.example","timeout":"soon"}`, "webhook.timeout")
	f("webhook", `{"url":"https://x.example","max_alerts":"many"}`, "webhook.max_alerts")
	f("webhook", `{"url_file":"/etc/shadow"}`, "webhook.url_file")
	f("webhook", `{"url":"https://x.example","http_config":{"bearer_token_file":"/x"}}`, "webhook.http_config.bearer_token_file")
	f("webhook", `{"url":"https://x.example","http_config":{"tls_config":{"key_file":"/x"}}}`, "webhook.http_config.tls_config.key_file")
	f("webhook", `{"url":"https://x.example","http_config":{"http_headers":{"X":{"files":["/x"]}}}}`, "webhook.http_config.http_headers.X.files")
	f("webhook", `{"url":"https://x.example","http_config":{"surprise":1}}`, "webhook.http_config.surprise")
	f("webhook", `[{"url":"https://x.example"},{}]`, "webhook[1].url")
	require.NoError(t, n.Validate(receiver(t, "webhook", `[]`)), "a receiver that sends nothing")
	f("webhook", `"x"`, "webhook")
	f("email", `{}`, "email.to")
	f("email", `{"to":"a@example.com"}`, "email.smarthost")
	f("email", `{"to":"a@example.com","smarthost":"x:25"}`, "email.from")
	f("email", `{"to":"a@example.com","smarthost":"x","from":"b@example.com"}`, "email.smarthost")
	f("slack", `{}`, "slack.api_url")
	f("slack", `{"api_url":"https://x.example","fields":[{"title":"t"}]}`, "slack")
	f("telegram", `{"bot_token":"x"}`, "telegram.chat_id")
	f("telegram", `{"bot_token":"x","chat_id":"me"}`, "telegram.chat_id")
	f("telegram", `{"bot_token":"x","chat_id":1,"parse_mode":"HTM"}`, "telegram.parse_mode")
	f("pagerduty", `{}`, "pagerduty.routing_key")
	f("opsgenie", `{}`, "opsgenie.api_key")
	f("sns", `{"topic_arn":"x"}`, "sns.sigv4")
	f("jira", `{"project":"x"}`, "jira.issue_type")
	f("discord", `{}`, "discord.webhook_url")

	g := func(r model.Receiver, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, fields(t, n.Validate(r))); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
	}
	g(model.Receiver{Name: "r"}, "type")
	g(model.Receiver{Name: "r", Type: "pigeon"}, "type")
	g(model.Receiver{Name: "r", Type: "webhook"}, "webhook")
	more := receiver(t, "webhook", minimal["webhook"])
	more.More = map[string]json.RawMessage{"pigeon": json.RawMessage(`{}`), "slack": json.RawMessage(`{}`), "webhook": json.RawMessage(`{}`)}
	g(more, "more.pigeon", "more.slack.api_url", "more.webhook")
}

func TestSecretsAreFound(t *testing.T) {
	for _, typ := range notify.Types {
		var spec map[string]any
		b, err := json.Marshal(receiver(t, typ, minimal[typ]))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &spec))
		paths := notify.ReceiverSecrets(b)
		require.Contains(t, paths, pathOf(typ), typ)
		// Every value with "secret" in it lies under one of the paths.
		var walk func(path string, v any)
		walk = func(path string, v any) {
			switch x := v.(type) {
			case map[string]any:
				for k, e := range x {
					walk(strings.TrimPrefix(path+"."+k, "."), e)
				}
			case string:
				if strings.Contains(x, "secret") {
					require.Contains(t, paths, path)
				}
			}
		}
		walk("", spec)
	}
	require.NotContains(t, notify.ReceiverSecrets([]byte(`{"type":"webhook","webhook":{"url":"https://x"}}`)), "webhook.url")
	require.Contains(t, notify.ReceiverSecrets([]byte(`{"type":"webhook","webhook":[{"url":"https://x"}],"more":{"slack":{}}}`)), "more.slack.api_url")
	require.Contains(t, notify.ReceiverSecrets([]byte(`{"type":"webhook","webhook":[{"url":"https://x"}]}`)), "webhook.*.http_config.http_headers.*.secrets.*")
}

func pathOf(typ string) string {
	if typ == "email" {
		return "email.auth_password"
	}
	return typ + ".http_config.basic_auth.password"
}

func TestTypesDescribeFieldsThatExist(t *testing.T) {
	types := notify.ReceiverTypes()
	require.Len(t, types, len(notify.Types))
	for _, typ := range types {
		require.NotEmpty(t, typ.Label["en"])
		require.NotEmpty(t, typ.Label["zh-CN"])
		seen := map[string]bool{}
		for _, f := range typ.Fields {
			require.False(t, seen[f.Name], "%s.%s stands there twice", typ.Name, f.Name)
			seen[f.Name] = true
			require.NotEmpty(t, f.Label["en"], f.Name)
			require.NotEmpty(t, f.Label["zh-CN"], f.Name)
			// A block with this field alone is refused for many reasons, but
			// never because there is no such field.
			block := map[string]any{}
			at := block
			parts := strings.Split(f.Name, ".")
			for _, p := range parts[:len(parts)-1] {
				next := map[string]any{}
				at[p] = next
				at = next
			}
			at[parts[len(parts)-1]] = sample(f)
			b, _ := json.Marshal(block)
			if _, err := notify.Decode(receiver(t, typ.Name, string(b))); err != nil {
				require.NotContains(t, err.Error(), "no such field", "%s.%s", typ.Name, f.Name)
				require.NotContains(t, err.Error(), "must be a", "%s.%s", typ.Name, f.Name)
			}
			if f.Type == "secret" {
				require.Contains(t, notify.ReceiverSecrets([]byte(`{"type":"`+typ.Name+`","`+typ.Name+`":{}}`)), typ.Name+"."+f.Name)
			}
		}
	}
}

func sample(f notify.Field) any {
	switch f.Type {
	case "int":
		return 5
	case "bool":
		return true
	case "duration":
		return "5s"
	case "list":
		return []any{}
	case "map", "object":
		return map[string]any{}
	case "enum":
		return f.Enum[0]
	}
	if strings.HasSuffix(f.Name, "url") {
		return "https://x.example/"
	}
	return "x"
}

func FuzzDecode(f *testing.F) {
	for typ, block := range minimal {
		f.Add(typ, block)
	}
	f.Add("webhook", `[{"url":"https://x"},{"url":5}]`)
	f.Add("slack", `{"api_url":"https://x","fields":[{"title":"a"}],"actions":[null]}`)
	f.Fuzz(func(t *testing.T, typ, block string) {
		r := model.Receiver{Name: "r", Type: typ, Block: json.RawMessage(block)}
		_, err := notify.Decode(r)
		if err != nil {
			fields(t, err)
		}
		spec, err := json.Marshal(map[string]json.RawMessage{"type": json.RawMessage(`"` + typ + `"`)})
		if err == nil {
			notify.ReceiverSecrets(spec)
		}
	})
}
