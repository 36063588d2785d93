package scrape_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
	"panoptes/internal/wire/uplink"
)

func TestJobsOfAgents(t *testing.T) {
	norm := func(spec string) (model.Record, error) {
		b, err := scrape.Normalize(json.RawMessage(spec), nil)
		return model.Record{ID: "x", Name: "pg", Spec: b}, err
	}
	rec, err := norm(`{"name":"pg","agents":{"hosts":["db-*"],"labels":{"team":"data"}},"labels":{"tier":"db"},"config":{"scrape_interval":"30s","metrics_path":"/m","basic_auth":{"username":"u","password":"p"},"static_configs":[{"targets":["localhost:9187"],"labels":{"engine":"pg"}}]}}`)
	require.NoError(t, err)
	db := model.Node{Name: "db-1", Labels: map[string]string{"team": "data"}}
	var got []uplink.ScrapeJob
	require.NoError(t, json.Unmarshal(scrape.ForAgent([]model.Record{rec}, db), &got))
	require.Empty(t, cmp.Diff([]uplink.ScrapeJob{{
		Job: "pg", Targets: []string{"localhost:9187"}, Labels: map[string]string{"tier": "db", "engine": "pg"}, Interval: model.Duration(30 * time.Second), Path: "/m", Username: "u", Password: "p", HonorTimestamps: true,
	}}, got))
	require.NoError(t, uplink.ValidateScrapes(got))
	for _, n := range []model.Node{{Name: "web-1", Labels: db.Labels}, {Name: "db-1"}} {
		require.Nil(t, scrape.ForAgent([]model.Record{rec}, n))
	}
	paused, err := norm(`{"name":"pg","paused":true,"agents":{"hosts":["*"]},"config":{"static_configs":[{"targets":["localhost:9187"]}]}}`)
	require.NoError(t, err)
	servers, err := norm(`{"name":"pg","config":{"static_configs":[{"targets":["localhost:9187"]}]}}`)
	require.NoError(t, err)
	require.Nil(t, scrape.ForAgent([]model.Record{paused, servers}, db))

	for field, spec := range map[string]string{
		"agents:":                          `{"name":"pg","agents":{},"config":{"static_configs":[{"targets":["a:1"]}]}}`,
		"agents.hosts[0]:":                 `{"name":"pg","agents":{"hosts":["["]},"config":{"static_configs":[{"targets":["a:1"]}]}}`,
		"config.relabel_configs":           `{"name":"pg","agents":{"hosts":["*"]},"config":{"relabel_configs":[],"static_configs":[{"targets":["a:1"]}]}}`,
		"config.dns_sd_configs":            `{"name":"pg","agents":{"hosts":["*"]},"config":{"dns_sd_configs":[{"names":["a"]}]}}`,
		"config.static_configs[0].targets": `{"name":"pg","agents":{"hosts":["*"]},"config":{"static_configs":[{"targets":["localhost"]}]}}`,
		"per_region:":                      `{"name":"pg","per_region":true,"agents":{"hosts":["*"]},"config":{"static_configs":[{"targets":["a:1"]}]}}`,
	} {
		_, err := norm(spec)
		require.ErrorContains(t, err, field, spec)
	}
}
