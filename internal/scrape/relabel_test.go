package scrape_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

// Every action of relabelling does to targets and to samples what Prometheus'
// documentation says.
func TestRelabelling(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, `m{keep="yes",Mixed="AbC",a="1",b="1",tmp_x="x",path="/a/b"} 1`+"\n"+`m{keep="no",a="1",b="2"} 1`+"\n"+`gone{keep="yes"} 1`+"\n")
	target := func(name, more string) string {
		return fmt.Sprintf("{targets: ['%s'], labels: {name: %s, %s}}", addr, name, more)
	}
	yml := "honor_labels: true\nstatic_configs: [" + strings.Join([]string{
		target("a", "__meta_env: prod, __meta_label_zone: z1, same: x, other: x, color: Red"), target("b", "__meta_env: test"),
		target("c", "__meta_env: prod, same: x, other: y"), target("d", "__meta_env: prod, __meta_drop: please"), target("e", "__meta_env: prod, equal: 1, alike: 1"),
	}, ",") + `]
relabel_configs:
- {source_labels: [__meta_env], regex: prod, action: keep}
- {source_labels: [__meta_drop], regex: .+, action: drop}
- {source_labels: [equal], target_label: __tmp_equal}
- {source_labels: [equal], regex: ^$, replacement: unset, target_label: __tmp_equal}
- {source_labels: [alike], target_label: __tmp_equal, action: dropequal}
- {action: labelmap, regex: __meta_label_(.+), replacement: k8s_$1}
- {source_labels: [same, other], separator: "-", regex: (.+)-(.+), target_label: both, replacement: "${2}_${1}"}
- {source_labels: [color], target_label: small, action: lowercase}
- {source_labels: [color], target_label: large, action: uppercase}
- {source_labels: [name], modulus: 1000, target_label: __tmp_hash, action: hashmod}
- {source_labels: [__tmp_hash], regex: "[0-9]{1,3}", target_label: hashed, replacement: "yes"}
- {action: labeldrop, regex: color|equal|alike}
metric_relabel_configs:
- {source_labels: [__name__], regex: gone, action: drop}
- {source_labels: [__name__, keep], regex: m;no, action: drop}
- {source_labels: [a], target_label: b, action: keepequal}
- {source_labels: [Mixed], target_label: mixed, action: lowercase}
- {action: labeldrop, regex: tmp_.+|Mixed}
- {source_labels: [path], regex: /(\w+)/(\w+), target_label: __name__, replacement: "m_${1}_${2}"}
- {action: labelkeep, regex: __name__|job|instance|name|both|small|large|hashed|k8s_zone|same|a|mixed}
`
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
	s.Update([]model.Record{record(t, "j", yml)})
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "m_a_b")) == 2 })
	want := map[string]bool{}
	for series := range stored(t, db, "__name__", "m_a_b") {
		want[series] = true
	}
	require.Equal(t, map[string]bool{
		`{__name__="m_a_b", a="1", both="x_x", hashed="yes", instance="` + addr + `", job="j", k8s_zone="z1", large="RED", mixed="abc", name="a", same="x", small="red"}`: true,
		`{__name__="m_a_b", a="1", both="y_x", hashed="yes", instance="` + addr + `", job="j", mixed="abc", name="c", same="x"}`:                                          true,
	}, want)
	for _, name := range []string{"m", "gone"} {
		require.Empty(t, stored(t, db, "__name__", name))
	}
	snap := s.Snapshot()
	require.Len(t, snap.Active, 2)
	require.Equal(t, 3, snap.Jobs[0].Dropped)
}
