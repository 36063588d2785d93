package scrape

import (
	"reflect"
	"strings"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/config"
)

// guide has the mechanisms of a job ask through the passage. It returns the
// secrets that they show there.
//
// HTTP discovery takes our dialer. Kubernetes from inside the cluster and
// Docker over a socket of this machine make no connection that a job chooses.
// ZooKeeper and Triton, which have clients of their own, stay outside.
func (p *passage) guide(job string, conf *config.ScrapeConfig) (secrets []string) {
	for _, sd := range conf.ServiceDiscoveryConfigs {
		v := reflect.Indirect(reflect.ValueOf(sd))
		if sd.Name() == "http" || v.Kind() != reflect.Struct {
			continue
		}
		client := v.FieldByName("HTTPClientConfig")
		if !client.IsValid() || !client.CanSet() {
			continue
		}
		c, ok := client.Interface().(commonconfig.HTTPClientConfig)
		if !ok {
			continue
		}
		secret, proxy := p.open(job, c.ProxyConfig)
		c.ProxyConfig = proxy
		client.Set(reflect.ValueOf(c))
		secrets = append(secrets, secret)
		// Docker's client asks with ours only when the address is one of HTTP,
		// which is what tcp means.
		if host := v.FieldByName("Host"); host.IsValid() && host.Kind() == reflect.String && host.CanSet() {
			if rest, ok := strings.CutPrefix(host.String(), "tcp://"); ok {
				host.SetString("http://" + rest)
			}
		}
	}
	return secrets
}
