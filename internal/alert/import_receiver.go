package alert

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"panoptes/internal/model"
)

// inherited says which setting of a type comes from which key of the global
// section when neither it nor its _file is written.
func inherited() map[string][][2]string {
	return map[string][][2]string{
		"email": {
			{"smarthost", "smtp_smarthost"}, {"from", "smtp_from"}, {"hello", "smtp_hello"}, {"auth_username", "smtp_auth_username"},
			{"auth_password", "smtp_auth_password"}, {"auth_secret", "smtp_auth_secret"}, {"auth_identity", "smtp_auth_identity"},
			{"require_tls", "smtp_require_tls"}, {"tls_config", "smtp_tls_config"}, {"force_implicit_tls", "smtp_force_implicit_tls"},
		},
		"slack":      {{"app_url", "slack_app_url"}}, // the rest in slack
		"pagerduty":  {{"url", "pagerduty_url"}},
		"opsgenie":   {{"api_url", "opsgenie_api_url"}, {"api_key", "opsgenie_api_key"}},
		"wechat":     {{"api_url", "wechat_api_url"}, {"api_secret", "wechat_api_secret"}, {"corp_id", "wechat_api_corp_id"}},
		"victorops":  {{"api_url", "victorops_api_url"}, {"api_key", "victorops_api_key"}},
		"telegram":   {{"api_url", "telegram_api_url"}, {"bot_token", "telegram_bot_token"}},
		"webex":      {{"api_url", "webex_api_url"}},
		"jira":       {{"api_url", "jira_api_url"}},
		"rocketchat": {{"api_url", "rocketchat_api_url"}, {"token", "rocketchat_token"}, {"token_id", "rocketchat_token_id"}},
		"mattermost": {{"webhook_url", "mattermost_webhook_url"}},
	}
}

func (im *importer) receivers() {
	global := object(im.raw["global"])
	list, _ := im.raw["receivers"].([]any)
	for _, e := range list {
		rc := object(e)
		old := fmt.Sprint(rc["name"])
		name := im.name(model.KindReceiver, old)
		out := model.Receiver{Name: name, Description: "imported from alertmanager.yml"}
		for _, k := range slices.Sorted(maps.Keys(rc)) {
			typ, ok := strings.CutSuffix(k, "_configs")
			if !ok {
				if k != "name" && !none(rc[k]) {
					im.note("receiver %q: %s is not taken over", name, k)
				}
				continue
			}
			blocks, _ := rc[k].([]any)
			if len(blocks) == 0 {
				continue
			}
			var done []any
			for i, b := range blocks {
				block := object(b)
				im.inherit(typ, block, global)
				if _, ok := block["send_resolved"]; !ok && slices.Contains([]string{"email", "slack", "wechat", "rocketchat"}, typ) {
					block["send_resolved"] = false // Alertmanager's default, not ours
				}
				im.clean(fmt.Sprintf("receiver %q: %s[%d]", name, typ, i), block)
				im.texts(fmt.Sprintf("receiver %q: %s[%d]", name, typ, i), block)
				done = append(done, block)
			}
			var v any = done
			if len(done) == 1 {
				v = done[0]
			}
			spec, err := json.Marshal(v)
			if err != nil {
				im.note("receiver %q: %s cannot be written: %s", name, k, err)
				continue
			}
			if out.Type == "" {
				out.Type, out.Block = typ, spec
				continue
			}
			if out.More == nil {
				out.More = map[string]json.RawMessage{}
			}
			out.More[typ] = spec
		}
		if out.Type == "" {
			out.Type, out.Block = "webhook", json.RawMessage("[]")
			im.note("receiver %q sends nothing, as before", name)
		}
		im.add(model.KindReceiver, name, out)
	}
}

func object(v any) map[string]any {
	m, ok := v.(map[string]any)
	if !ok {
		return map[string]any{}
	}
	return m
}

func none(v any) bool {
	switch t := v.(type) {
	case nil:
		return true
	case string:
		return t == ""
	case []any:
		return len(t) == 0
	case map[string]any:
		return len(t) == 0
	}
	return false
}

// inherit writes the values of the global section into a block.
func (im *importer) inherit(typ string, block, global map[string]any) {
	missing := func(k string) bool { return none(block[k]) && none(block[k+"_file"]) }
	take := func(k, from string) {
		for _, suffix := range []string{"", "_file"} {
			if v := global[from+suffix]; !none(v) {
				block[k+suffix] = v
			}
		}
	}
	for _, p := range inherited()[typ] {
		if missing(p[0]) {
			take(p[0], p[1])
		}
	}
	if typ == "slack" && missing("api_url") && missing("app_token") {
		if none(object(block["http_config"])["authorization"]) {
			take("app_token", "slack_app_token")
		}
		if missing("app_token") {
			take("api_url", "slack_api_url")
		}
	}
	if typ == "email" {
		return
	}
	gh := object(global["http_config"])
	switch {
	case len(gh) == 0:
	case none(block["http_config"]):
		block["http_config"] = clone(gh)
	case typ == "msteamsv2" && none(object(block["http_config"])["proxy_url"]) && !none(gh["proxy_url"]):
		object(block["http_config"])["proxy_url"] = gh["proxy_url"]
	}
}

// clone copies what was read from YAML: two receivers must not share a map that
// is changed afterwards.
func clone(v any) any {
	switch t := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

// Placeholders for what stood in files.
const (
	changeMe    = "CHANGE-ME"
	changeMeURL = "https://change-me.invalid/"
)

// clean replaces what points to files, which records do not read.
func (im *importer) clean(where string, block map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(block)) {
		v := block[k]
		base, isFile := strings.CutSuffix(k, "_file")
		ref, isRef := strings.CutSuffix(k, "_ref")
		switch {
		case isFile && slices.Contains([]string{"ca", "cert", "key"}, base):
			delete(block, k)
			if !none(v) {
				im.note("%s: %s pointed to the file %v; put its text into %s", where, k, v, base)
			}
		case isFile || isRef:
			delete(block, k)
			if none(v) {
				continue
			}
			if isRef {
				base = ref
			}
			block[base] = placeholder(base)
			im.note("%s: %s pointed to %v; put the value itself into %s, which is %v now", where, k, v, base, block[base])
		case k == "proxy_from_environment" && v == true:
			delete(block, k)
			im.note("%s: proxy_from_environment is not taken over; write the proxy into proxy_url", where)
		case k == "use_aws_http_client":
			delete(block, k)
			im.note("%s: use_aws_http_client is not taken over", where)
		case k == "http_headers":
			for name, h := range object(v) {
				if files := object(h)["files"]; !none(files) {
					delete(object(h), "files")
					im.note("%s: http_headers.%s.files pointed to %v; put the values into secrets", where, name, files)
				}
			}
		case slices.Contains([]string{"http_config", "tls_config", "basic_auth", "authorization", "oauth2", "sigv4"}, k):
			im.clean(where+"."+k, object(v))
		}
	}
	if s, ok := block["sigv4"].(map[string]any); ok && (none(s["access_key"]) || none(s["secret_key"])) {
		s["access_key"], s["secret_key"] = changeMe, changeMe
		im.note("%s: sigv4 used the machine's credentials; put access_key and secret_key in", where)
	}
}

func placeholder(field string) any {
	switch {
	case strings.HasSuffix(field, "url"):
		return changeMeURL
	case field == "chat_id":
		return 1
	}
	return changeMe
}

var (
	templateRE = regexp.MustCompile(`\{\{-?\s*template\s+"([^"]+)"`)
	builtinRE  = regexp.MustCompile(`^(__|panoptes\.|[a-z0-9]+\.default\.)`)
)

// texts drops texts that use templates of files: with them every message would
// fail, without them the standard text is sent.
func (im *importer) texts(where string, block map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(block)) {
		switch v := block[k].(type) {
		case string:
			if t := foreign(v); t != "" {
				delete(block, k)
				im.note("%s: %s used the template %q of a file; the standard text is sent until you write one", where, k, t)
			}
		case map[string]any:
			if k != "http_config" && k != "tls_config" {
				im.texts(where+"."+k, v)
			}
		case []any:
			for i, e := range v {
				for _, f := range object(e) {
					if s, ok := f.(string); ok && foreign(s) != "" {
						im.note("%s: %s[%d] uses the template %q of a file; write its text there, messages fail until then", where, k, i, foreign(s))
					}
				}
			}
		}
	}
}

func foreign(s string) string {
	for _, m := range templateRE.FindAllStringSubmatch(s, -1) {
		if !builtinRE.MatchString(m[1]) {
			return m[1]
		}
	}
	return ""
}
