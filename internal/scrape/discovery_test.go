package scrape_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

// answers serves JSON by path; a path that ends with * stands for all below.
func answers(t *testing.T, byPath map[string]string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Consul-Index", "1")
		for p, body := range byPath {
			if r.URL.Path == p || strings.HasSuffix(p, "*") && strings.Contains(r.URL.Path, strings.TrimSuffix(p, "*")) {
				if r.URL.Query().Get("index") == "1" { // a question that waits for changes
					<-r.Context().Done()
					return
				}
				fmt.Fprint(w, body)
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// scraped waits until a target that discovery has found is scraped with the label.
func scraped(t *testing.T, s *scrape.Scraper, db *tsdb.DB, how, label, value string) {
	t.Helper()
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "x", "how", how, label, value)) == 1 }, how)
}

func TestDiscoveryAsksRealInterfaces(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	consul := answers(t, map[string]string{
		"/v1/agent/self":       `{"Config":{"Datacenter":"dc1"}}`,
		"/v1/catalog/services": `{"shop":["prod"],"other":[]}`,
		"/v1/health/service/shop": fmt.Sprintf(`[{"Node":{"Node":"node7","Address":%q,"Datacenter":"dc1"},
			"Service":{"ID":"shop1","Service":"shop","Tags":["prod"],"Address":%q,"Port":%s},"Checks":[{"Status":"passing"}]}]`, host, host, port),
	})
	docker := answers(t, map[string]string{
		"/_ping*": `OK`,
		"/containers/json*": fmt.Sprintf(`[{"Id":"c1","Names":["/shop"],"Labels":{"team":"web"},"State":"running","HostConfig":{"NetworkMode":"bridge"},
			"Ports":[{"IP":"127.0.0.1","PrivatePort":%s,"PublicPort":%s,"Type":"tcp"}],"NetworkSettings":{"Networks":{"bridge":{"NetworkID":"net1","IPAddress":"127.0.0.1"}}}}]`, port, port),
		"/networks*": `[{"Id":"net1","Name":"bridge","Scope":"local"}]`,
	})
	web := answers(t, map[string]string{"/targets": fmt.Sprintf(`[{"targets":[%q],"labels":{"rack":"r1"}}]`, addr)})
	kube := kubernetes(t, host, port)
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
	how := func(name string) string { return "{target_label: how, replacement: " + name + "}" }
	s.Update([]model.Record{
		record(t, "consul", "{consul_sd_configs: [{server: '"+strings.TrimPrefix(consul, "http://")+"', services: [shop], refresh_interval: 1s}], relabel_configs: [{source_labels: [__meta_consul_node], target_label: node}, "+how("consul")+"]}"),
		record(t, "docker", "{docker_sd_configs: [{host: '"+docker+"', refresh_interval: 1s}], relabel_configs: [{source_labels: [__meta_docker_container_label_team], target_label: team}, "+how("docker")+"]}"),
		record(t, "web", "{http_sd_configs: [{url: '"+web+"/targets', refresh_interval: 1s}], relabel_configs: ["+how("http")+"]}"),
		record(t, "kube", "{kubernetes_sd_configs: [{role: pod, api_server: '"+kube+"'}], relabel_configs: [{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: 'true', action: keep}, {action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}, "+how("kubernetes")+"]}"),
	})
	scraped(t, s, db, "http", "rack", "r1")
	scraped(t, s, db, "consul", "node", "node7")
	scraped(t, s, db, "docker", "team", "web")
	scraped(t, s, db, "kubernetes", "app", "shop")
	require.Empty(t, s.Snapshot().Problems)
	for _, j := range s.Snapshot().Jobs {
		if j.Job == "kube" {
			require.Equal(t, 2, j.Discovered, "the pod without the annotation is found and dropped")
			require.Equal(t, 1, j.Active)
		}
	}
}

// kubernetes is as much of an API server as discovery of pods asks for.
func kubernetes(t *testing.T, host, port string) string {
	pod := func(name, annotations string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"default","uid":%q,"resourceVersion":"5","labels":{"app":"shop"},"annotations":{%s}},
			"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i","ports":[{"name":"http","containerPort":%s,"protocol":"TCP"}]}]},
			"status":{"phase":"Running","podIP":%q,"hostIP":%q,"conditions":[{"type":"Ready","status":"True"}]}}`, name, name, annotations, port, host, host)
	}
	pods := []string{pod("shop-1", `"prometheus.io/scrape":"true"`), pod("quiet-1", "")}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path != "/api/v1/pods":
			http.NotFound(w, r)
		case r.URL.Query().Get("watch") == "":
			fmt.Fprintf(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"10"},"items":[%s]}`, strings.Join(pods, ","))
		default:
			if r.URL.Query().Get("sendInitialEvents") == "true" {
				for _, p := range pods {
					fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", p)
				}
				fmt.Fprint(w, `{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"10","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n")
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// A target, or a service that lists targets, sends on to where only this machine
// may ask: the dialer has the last word each time.
func TestRedirectsToOtherPlacesAreDialedThroughTheDialer(t *testing.T) {
	var secrets atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		secrets.Add(1)
		fmt.Fprint(w, `[{"targets":["a:1"]}]`)
	}))
	t.Cleanup(inner.Close)
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
	}))
	t.Cleanup(bad.Close)
	refused := errors.New("address is refused by policy")
	var asked atomic.Int64
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "169.254.") {
			asked.Add(1)
			return nil, refused
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: openDB(t), Dial: dial})
	s.Update([]model.Record{
		record(t, "target", "{static_configs: [{targets: ['"+strings.TrimPrefix(bad.URL, "http://")+"']}]}"),
		record(t, "list", "{http_sd_configs: [{url: '"+bad.URL+"', refresh_interval: 200ms}]}"),
	})
	within(t, 20*time.Second, func() bool {
		a := s.Snapshot().Active
		return len(a) == 1 && strings.Contains(a[0].LastError, refused.Error()) && asked.Load() > 2
	})
	require.Zero(t, secrets.Load())
}

// Addresses where clouds keep the credentials of a machine are refused when they
// are written down, since not all mechanisms ask the dialer.
func TestMetadataAddressesAreRefused(t *testing.T) {
	for field, yml := range map[string]string{
		"config.consul_sd_configs[0].server":               "{consul_sd_configs: [{server: '169.254.169.254:80'}]}",
		"config.kubernetes_sd_configs[0].api_server":       "{kubernetes_sd_configs: [{role: pod, api_server: 'http://[fd00:ec2::254]/'}]}",
		"config.docker_sd_configs[0].host":                 "{docker_sd_configs: [{host: 'tcp://169.254.170.2:80'}]}",
		"config.http_sd_configs[0].url":                    "{http_sd_configs: [{url: 'http://metadata.google.internal/x'}]}",
		"config.openstack_sd_configs[0].identity_endpoint": "{openstack_sd_configs: [{role: instance, region: a, identity_endpoint: 'http://169.254.169.254/v3'}]}",
		"config.triton_sd_configs[0].endpoint":             "{triton_sd_configs: [{account: a, dns_suffix: a, endpoint: 169.254.169.254, version: 1, tls_config: {insecure_skip_verify: true}}]}",
		"config.proxy_url":                                 "{proxy_url: 'http://169.254.1.1:3128', static_configs: [{targets: ['a:1']}]}",
	} {
		conf, err := json.Marshal(yml)
		require.NoError(t, err)
		spec, err := json.Marshal(scrape.Job{Name: "j", Config: conf})
		require.NoError(t, err)
		_, err = scrape.Normalize(spec, nil)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, yml)
		require.Equal(t, field, inv[0].Field, err)
	}
}

// Whoever may edit a job must not read the server's files through it.
func TestFilesOfTheServerAreOutOfReach(t *testing.T) {
	outside, allowed := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "admin.key")
	require.NoError(t, os.WriteFile(secret, []byte("very secret"), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(allowed, "link")))
	require.NoError(t, os.Symlink(outside, filepath.Join(allowed, "dir")))
	var sent atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			sent.Store(h)
		}
		fmt.Fprint(w, "x 1\n")
	}))
	t.Cleanup(srv.Close)
	s, _ := start(t, scrape.Config{FileDirs: []string{allowed}}, scrape.Deps{Appendable: openDB(t)})
	static := "static_configs: [{targets: ['" + strings.TrimPrefix(srv.URL, "http://") + "']}]"
	var list []model.Record
	for i, conf := range []string{
		"{bearer_token_file: '" + secret + "', " + static + "}",
		"{authorization: {credentials_file: '" + allowed + "/link'}, " + static + "}",
		"{authorization: {credentials_file: '" + allowed + "/dir/admin.key'}, " + static + "}",
		"{authorization: {credentials_file: '" + allowed + "/../" + filepath.Base(outside) + "/admin.key'}, " + static + "}",
		"{basic_auth: {username: a, password_file: '" + secret + "'}, " + static + "}",
		"{basic_auth: {username_file: '" + secret + "', password: a}, " + static + "}",
		"{tls_config: {ca_file: '" + secret + "'}, " + static + "}",
		"{tls_config: {cert_file: '" + secret + "', key_file: '" + secret + "'}, " + static + "}",
		"{oauth2: {client_id: a, client_secret_file: '" + secret + "', token_url: 'http://127.0.0.1:1/'}, " + static + "}",
		"{http_headers: {X-A: {files: ['" + secret + "']}}, " + static + "}",
		"{file_sd_configs: [{files: ['" + outside + "/*.json']}]}",
		"{kubernetes_sd_configs: [{role: pod, kubeconfig_file: '" + secret + "'}]}",
		"{http_sd_configs: [{url: '" + srv.URL + "', authorization: {credentials_file: '" + secret + "'}}]}",
	} {
		list = append(list, record(t, fmt.Sprint("j", i), conf))
	}
	s.Update(list)
	within(t, 10*time.Second, func() bool { return len(s.Snapshot().Problems) == len(list) })
	for _, p := range s.Snapshot().Problems {
		require.Contains(t, p.Message, "scrape.files_dirs")
		require.NotContains(t, p.Message, "very secret")
	}
	require.Nil(t, sent.Load())
}

// Mechanisms that dial by themselves reach what the dialer lets them reach: by
// name, by redirection, in a tunnel of TLS, through a proxy of their own.
func TestAllMechanismsAskThroughTheDialer(t *testing.T) {
	addr := serve(t, textFormat, "x 1\n")
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	var inside atomic.Int64
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	t.Cleanup(secret.Close)
	eureka := fmt.Sprintf(`<applications><application><name>shop</name><instance><hostName>%[1]s</hostName><ipAddr>%[1]s</ipAddr><status>UP</status>
		<port enabled="true">%[2]s</port><instanceId>i1</instanceId></instance></application></applications>`, host, port)
	byTLS := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, eureka)
	}))
	t.Cleanup(byTLS.Close)
	docker := answers(t, map[string]string{
		"/_ping*": `OK`, "/networks*": `[{"Id":"net1","Name":"bridge","Scope":"local"}]`,
		"/containers/json*": fmt.Sprintf(`[{"Id":"c1","Names":["/shop"],"State":"running","HostConfig":{"NetworkMode":"bridge"},
			"Ports":[{"IP":"127.0.0.1","PrivatePort":%s,"PublicPort":%s,"Type":"tcp"}],"NetworkSettings":{"Networks":{"bridge":{"NetworkID":"net1","IPAddress":"127.0.0.1"}}}}]`, port, port),
	})
	redirects := httptest.NewServer(http.RedirectHandler(secret.URL, http.StatusFound))
	t.Cleanup(redirects.Close)
	var mu sync.Mutex
	dialed := map[string]int{}
	dial := func(ctx context.Context, network, a string) (net.Conn, error) {
		mu.Lock()
		dialed[a]++
		mu.Unlock()
		if a == strings.TrimPrefix(secret.URL, "http://") {
			return nil, errors.New("address is refused by policy")
		}
		return (&net.Dialer{}).DialContext(ctx, network, a)
	}
	saw := func(url string) bool {
		mu.Lock()
		defer mu.Unlock()
		_, a, _ := strings.Cut(url, "://")
		return dialed[a] > 0
	}
	db := openDB(t)
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db, Dial: dial})
	how := func(name string) string { return "relabel_configs: [{target_label: how, replacement: " + name + "}]" }
	records := []model.Record{
		record(t, "docker", "{docker_sd_configs: [{host: '"+strings.Replace(docker, "http://", "tcp://", 1)+"', refresh_interval: 1s}], "+how("docker")+"}"),
		record(t, "tls", "{eureka_sd_configs: [{server: '"+byTLS.URL+"', refresh_interval: 1s, tls_config: {insecure_skip_verify: true}}], "+how("tls")+"}"),
		record(t, "name", "{eureka_sd_configs: [{server: '"+secret.URL+"', refresh_interval: 1s}]}"),
		record(t, "sent", "{puppetdb_sd_configs: [{url: '"+redirects.URL+"', query: 'resources {}', refresh_interval: 1s}]}"),
		record(t, "proxy", "{eureka_sd_configs: [{server: 'https://somewhere.example', refresh_interval: 1s, proxy_url: '"+secret.URL+"'}]}"),
	}
	s.Update(records)
	scraped(t, s, db, "docker", "how", "docker")
	scraped(t, s, db, "tls", "how", "tls")
	require.True(t, saw(docker) && saw(byTLS.URL))
	within(t, 20*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return dialed[strings.TrimPrefix(secret.URL, "http://")] >= 3
	}, "by name, by redirection and as a proxy")
	require.True(t, saw(redirects.URL))
	require.Zero(t, inside.Load())
	require.Empty(t, s.Snapshot().Problems)
}
