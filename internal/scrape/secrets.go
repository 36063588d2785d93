package scrape

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// secretKeys are the names under which Prometheus and its discovery mechanisms
// keep secrets. A test compares them with the types.
var secretKeys = []string{
	"password", "credentials", "client_secret", "client_certificate_key", "bearer_token", "token", "secret_key",
	"application_credential_secret", "application_secret", "consumer_key", "auth_token", "service_account_key", "private_key",
}

// Secrets lists the paths of the secrets in a spec of a scrape record, with *
// for the entries of lists and maps: "config.basic_auth.password".
func Secrets(spec json.RawMessage) []string {
	var rec struct {
		Config any `json:"config"`
	}
	if json.Unmarshal(spec, &rec) != nil {
		return nil
	}
	if _, isText := rec.Config.(string); isText {
		return []string{"config"} // YAML that was not normalized: nothing of it is shown
	}
	var out []string
	secretPaths(rec.Config, []string{"config"}, &out)
	slices.Sort(out)
	return slices.Compact(out)
}

// Shape makes an object of a config that came as YAML, so that its secrets are
// found. What it cannot read it returns as it is.
func Shape(spec json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(spec, &fields) != nil || len(fields["config"]) == 0 || fields["config"][0] != '"' {
		return spec
	}
	config, err := canonicalConfig(fields["config"])
	if err != nil {
		return spec
	}
	fields["config"] = config
	out, err := json.Marshal(fields)
	if err != nil {
		return spec
	}
	return out
}

func secretPaths(v any, path []string, out *[]string) {
	add := func(more ...string) { *out = append(*out, strings.Join(append(slices.Clone(path), more...), ".")) }
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			secretPaths(e, append(slices.Clone(path), "*"), out)
		}
	case map[string]any:
		parent := path[len(path)-1]
		for _, k := range slices.Sorted(maps.Keys(v)) {
			switch {
			case inData([]string{k}):
			case slices.Contains(secretKeys, k), k == "key" && parent == "tls_config":
				add(k)
			case k == "http_headers":
				add(k, "*", "secrets", "*")
			case k == "proxy_connect_header":
				add(k, "*", "*")
			default:
				secretPaths(v[k], append(slices.Clone(path), k), out)
			}
		}
	}
}
