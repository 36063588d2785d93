package scrape_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

func TestNormalizeNamesTheField(t *testing.T) {
	f := func(spec string, want ...string) {
		t.Helper()
		_, err := scrape.Normalize(json.RawMessage(spec), nil)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, spec)
		var got []string
		for _, e := range inv {
			got = append(got, e.Error())
		}
		for _, w := range want {
			require.True(t, slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) }), "%s\nwant %q\ngot  %q", spec, w, got)
		}
	}
	targets := `"static_configs":[{"targets":["a:1"]}]`
	f(`{"name":"a"}`, "config: must be given")
	f(`{"name":"a","config":[]}`, "config: must be an object")
	f(`{"name":"a","config":{},"color":1}`, "color: there is no such field")
	f(`{"name":"","regions":["",""],"labels":{"__x":"1","9":"2"},"config":{`+targets+`}}`, "name: ", "regions[0]: ", "labels.__x: ", "labels.9: ")
	f(`{"name":"a","config":{}}`, "config: names no targets; add static_configs or one of ")
	f(`{"name":"a","config":{`+targets+`,"scrape_intervall":"5s","relabel_configs":[{"actoin":"keep"}]}}`, "config.scrape_intervall: there is no such field", "config.relabel_configs[0].actoin: there is no such field")
	if !slices.Contains(discovery.RegisteredConfigNames(), "ec2") {
		f(`{"name":"a","config":{"ec2_sd_configs":[]}}`, "config.ec2_sd_configs: this discovery mechanism is not built in; a program built with -tags clouds has it; there are consul_sd_configs")
	}
	f(`{"name":"a","config":{"quantum_sd_configs":[]}}`, "config.quantum_sd_configs: this discovery mechanism is not built in; there are consul_sd_configs")
	f(`{"name":"a","config":{`+targets+`,"scrape_interval":"10ms","scrape_timeout":"5ms"}}`, "config.scrape_interval: must be at least 1s")
	f(`{"name":"a","config":{`+targets+`,"scrape_interval":"1m","scrape_timeout":"2m"}}`, "config.scrape_timeout: scrape timeout greater than scrape interval")
	f(`{"name":"a","config":{`+targets+`,"body_size_limit":"10GB","sample_limit":99999999,"scrape_failure_log_file":"/x"}}`, "config.body_size_limit: ", "config.sample_limit: ", "config.scrape_failure_log_file: is not supported")
	f(`{"name":"a","config":{`+targets+`,"tls_config":{"ca_file":"ca.pem"}}}`, "config.tls_config.ca_file: must be an absolute path")
	f(`{"name":"a","config":{"http_sd_configs":[{"url":"http://u:p@x/"}]}}`, "config.http_sd_configs[0].url: must not hold a password")
	f(`{"name":"a","config":{`+targets+`,"relabel_configs":[{"action":"keep","regex":"("}]}}`, "config")
	f(`{"name":"a","config":"static_configs: ["}`, "config: not valid YAML")
}

func TestNormalizeIsCanonical(t *testing.T) {
	f := func(spec, want string) {
		t.Helper()
		got, err := scrape.Normalize(json.RawMessage(spec), nil)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		again, err := scrape.Normalize(got, nil)
		require.NoError(t, err)
		require.Equal(t, want, string(again))
	}
	f(`{"name":"a","config":{"static_configs":[{"targets":["a:1"],"labels":{"v":1.10}}],"honor_labels":true}}`,
		`{"name":"a","regions":["*"],"config":{"honor_labels":true,"static_configs":[{"labels":{"v":1.10},"targets":["a:1"]}]}}`)
	f(`{"name":"a","config":"honor_labels: yes\nstatic_configs: [{targets: ['a:1'], labels: {v: 1.10, w: yes}}]"}`,
		`{"name":"a","regions":["*"],"config":{"honor_labels":true,"static_configs":[{"labels":{"v":"1.10","w":"yes"},"targets":["a:1"]}]}}`)
}

// secretsOf lists the names of all fields of the engine's type Secret.
func secretsOf(typ reflect.Type, name, parent string, seen map[reflect.Type]bool, out map[string]bool) {
	if typ.Name() == "Secret" {
		out[parent+"/"+name] = true
		return
	}
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		secretsOf(typ.Elem(), name, parent, seen, out)
	case reflect.Map:
		secretsOf(typ.Elem(), "*", name, seen, out)
	case reflect.Struct:
		if seen[typ] {
			return
		}
		seen[typ] = true
		defer delete(seen, typ)
		for f := range typ.Fields() {
			tag, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case !f.IsExported() || tag == "-":
			case strings.Contains(opts, "inline"):
				secretsOf(f.Type, name, parent, seen, out)
			default:
				secretsOf(f.Type, tag, name, seen, out)
			}
		}
	}
}

// examples are blocks of all mechanisms.
var examples = map[string]string{
	"consul": "{server: a}", "dns": "{names: [a], type: A, port: 1}", "docker": "{host: 'unix:///a'}", "dockerswarm": "{host: 'unix:///a', role: nodes}",
	"file": "{files: [/a.json]}", "http": "{url: 'http://a'}", "kubernetes": "{role: pod}",
	"digitalocean": "{authorization: {credentials: x}}", "linode": "{authorization: {credentials: x}}", "eureka": "{server: 'http://a'}",
	"hetzner": "{role: hcloud, authorization: {credentials: x}}", "ionos": "{datacenter_id: a, authorization: {credentials: x}}",
	"marathon": "{servers: ['http://a']}", "puppetdb": "{url: 'http://a', query: q}", "kuma": "{server: 'http://a'}",
	"triton": "{account: a, dns_suffix: a, endpoint: a, version: 1}", "uyuni": "{server: 'http://a', username: u, password: p}",
	"nomad": "{server: 'http://a'}", "openstack": "{role: instance, region: a, password: p}", "ovhcloud": "{endpoint: ovh-eu, application_key: a, application_secret: b, consumer_key: c, service: vps}",
	"scaleway": "{role: instance, project_id: 11111111-1111-1111-1111-111111111111, access_key: SCW0123456789ABCDEFG, secret_key: 11111111-1111-1111-1111-111111111111}",
	"stackit":  "{project: a, region: eu01}", "vultr": "{authorization: {credentials: x}}",
	"aws": "{role: ec2, region: a, access_key: a, secret_key: b}", "ec2": "{region: a, access_key: a, secret_key: b}", "ecs": "{region: a}", "lightsail": "{region: a}",
	"azure": "{subscription_id: a, tenant_id: b, client_id: c, client_secret: d}", "gce": "{project: a, zone: b}",
	"nerve": "{servers: [a], paths: [/a]}", "serverset": "{servers: [a], paths: [/a]}",
}

// Those that have no client of HTTP to be guided are the ones that the
// documentation names.
func TestMechanismsOutsideOfTheDialer(t *testing.T) {
	var outside []string
	for _, n := range discovery.RegisteredConfigNames() {
		if n == "static" || n == "file" || n == "dns" { // they ask nobody, or the machine's resolver
			continue
		}
		var c config.ScrapeConfig
		require.NoError(t, unmarshal("{job_name: a, "+n+"_sd_configs: ["+examples[n]+"]}", &c), n)
		if f := reflect.ValueOf(c.ServiceDiscoveryConfigs[0]).Elem().FieldByName("HTTPClientConfig"); !f.IsValid() {
			outside = append(outside, n)
		}
	}
	require.Subset(t, []string{"gce", "nerve", "openstack", "ovhcloud", "serverset", "triton"}, outside)
}

func TestSecretsCoverAllMechanisms(t *testing.T) {
	found := map[string]bool{}
	secretsOf(reflect.TypeFor[config.ScrapeConfig](), "", "", map[reflect.Type]bool{}, found)
	for _, n := range discovery.RegisteredConfigNames() {
		if n == "static" {
			continue
		}
		// The mechanism's type is what its block is decoded into.
		var c config.ScrapeConfig
		spec := examples[n]
		require.NotEmpty(t, spec, "the mechanism %s is new: add an example", n)
		require.NoError(t, unmarshal("{job_name: a, "+n+"_sd_configs: ["+spec+"]}", &c), n)
		secretsOf(reflect.TypeOf(c.ServiceDiscoveryConfigs[0]), "", "", map[reflect.Type]bool{}, found)
	}
	require.Greater(t, len(found), 6)
	for at := range found {
		parent, name, _ := strings.Cut(at, "/")
		var inner any = map[string]any{name: "x"}
		for _, p := range strings.Split(parent, "/") {
			if p != "" {
				inner = map[string]any{p: inner}
			}
		}
		if parent == "proxy_connect_header" {
			inner = map[string]any{parent: map[string]any{"A": []any{"x"}}}
		}
		if name == "secrets" {
			inner = map[string]any{"http_headers": map[string]any{"A": map[string]any{name: []any{"x"}}}}
		}
		spec, err := json.Marshal(map[string]any{"name": "a", "config": inner})
		require.NoError(t, err)
		require.NotEmpty(t, scrape.Secrets(spec), "secret at %s: %s", at, spec)
	}
	require.Equal(t, []string{"config.basic_auth.password", "config.consul_sd_configs.*.token", "config.tls_config.key"},
		scrape.Secrets([]byte(`{"config":{"basic_auth":{"password":"a","password_file":"b"},"consul_sd_configs":[{"token":"x"},{"token":"y"}],"tls_config":{"key":"k"},"static_configs":[{"labels":{"token":"no"}}]}}`)))
	require.Equal(t, []string{"config"}, scrape.Secrets([]byte(`{"config":"basic_auth: {password: x}"}`)))
}

func TestFilesOnlyFromAllowedDirectories(t *testing.T) {
	allowed, other := t.TempDir(), t.TempDir()
	for _, d := range []string{allowed, other} {
		require.NoError(t, os.WriteFile(filepath.Join(d, "secret"), []byte("s"), 0o600))
	}
	require.NoError(t, os.Symlink(filepath.Join(other, "secret"), filepath.Join(allowed, "link")))
	addr := serve(t, textFormat, "x 1\n")
	s, _ := start(t, scrape.Config{FileDirs: []string{allowed}}, scrape.Deps{Appendable: openDB(t)})
	job := func(name, file string) model.Record {
		return record(t, name, "{authorization: {credentials_file: '"+file+"'}, static_configs: [{targets: ['"+addr+"']}]}")
	}
	s.Update([]model.Record{
		job("good", filepath.Join(allowed, "secret")), job("bad", filepath.Join(other, "secret")), job("link", filepath.Join(allowed, "link")),
		job("up", allowed+"/../"+filepath.Base(other)+"/secret"),
		record(t, "ca", "{tls_config: {ca_file: '"+allowed+"/missing'}, static_configs: [{targets: ['"+addr+"']}]}"),
	})
	within(t, 10*time.Second, func() bool { return len(s.Snapshot().Active) == 1 })
	var names []string
	for _, p := range s.Snapshot().Problems {
		names = append(names, p.Job)
		if p.Job == "ca" {
			require.Contains(t, p.Message, "missing")
		} else {
			require.Contains(t, p.Message, "config.authorization.credentials_file: ")
		}
	}
	require.ElementsMatch(t, []string{"bad", "link", "up", "ca"}, names, "one bad job does not keep the others from running")
}

// What a server would not run it does not keep; but a job that names such a file
// already may be paused.
func TestForbiddenFilesAreNotStored(t *testing.T) {
	normalize := scrape.NormalizeWithin([]string{"/etc/jobs"})
	job := func(file, more string) json.RawMessage {
		return json.RawMessage(`{"name":"a"` + more + `,"config":{"authorization":{"credentials_file":"` + file + `"},"static_configs":[{"targets":["a:1"]}]}}`)
	}
	_, err := normalize(job("/etc/jobs/token", ""), nil)
	require.NoError(t, err)
	for _, file := range []string{"/etc/shadow", "/etc/jobs/../shadow", "/etc/jobs"} {
		_, err = normalize(job(file, ""), nil)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, "config.authorization.credentials_file", inv[0].Field)
		require.Contains(t, inv[0].Msg, "scrape.files_dirs")
	}
	had := job("/etc/shadow", "")
	_, err = normalize(job("/etc/shadow", `,"paused":true`), had)
	require.NoError(t, err)
	_, err = normalize(job("/etc/passwd", ""), had)
	require.ErrorContains(t, err, "config.authorization.credentials_file")
	text, err := json.Marshal("authorization: {credentials_file: /etc/shadow}\nstatic_configs: [{targets: ['a:1']}]")
	require.NoError(t, err)
	_, err = normalize(json.RawMessage(`{"name":"a","config":`+string(text)+`}`), nil)
	require.ErrorContains(t, err, "config.authorization.credentials_file")
}
