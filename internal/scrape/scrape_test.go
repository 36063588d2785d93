package scrape_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

func TestTextIsScrapedWithLabels(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "a_total{job=\"mine\"} 3\nb{x=\"y\"} 4\n")
	s, _ := start(t, scrape.Config{Region: "eu"}, scrape.Deps{Appendable: db})
	s.Update([]model.Record{
		record(t, "plain", "{job_name: web shop, static_configs: [{targets: ['"+addr+"'], labels: {version: 1.10}}]}"),
		record(t, "honest", "{honor_labels: true, static_configs: [{targets: ['"+addr+"']}]}", func(j *scrape.Job) {
			j.Labels = map[string]string{"team": "a$1", "job": "never"}
			j.PerRegion = true
		}),
	})
	want := []string{
		`{__name__="a_total", exported_job="mine", instance="` + addr + `", job="web shop", version="1.10"}`,
		`{__name__="a_total", instance="` + addr + `", job="mine", region="eu", team="a$1"}`,
		`{__name__="b", instance="` + addr + `", job="honest", region="eu", team="a$1", x="y"}`,
		`{__name__="up", instance="` + addr + `", job="web shop", version="1.10"}`,
	}
	within(t, 10*time.Second, func() bool {
		got := stored(t, db, "instance", addr)
		for _, w := range want {
			if len(got[w]) < 2 {
				return false
			}
		}
		return true
	}, "series are missing")
	snap := s.Snapshot()
	require.Len(t, snap.Active, 2)
	require.Equal(t, "up", snap.Active[0].Health)
	require.Equal(t, "n1", snap.Active[0].Node)
	require.Equal(t, "honest", snap.Active[0].Job)
	require.Equal(t, "http://"+addr+"/metrics", snap.Active[0].URL)
	require.Empty(t, snap.Problems)
}
