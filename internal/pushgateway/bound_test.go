package pushgateway_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/pushgateway"
)

// who pushes is bound to these labels.
func boundTo(who *labels.Labels) func(context.Context) labels.Labels {
	return func(context.Context) labels.Labels { return *who }
}

// Types of metrics are agreed among those who are bound to the same labels:
// here, on another server, and after a restart.
func TestTypesOfOthersDoNotMatter(t *testing.T) {
	const gauge, counter = "# TYPE jobs_total gauge\njobs_total 1\n", "# TYPE jobs_total counter\njobs_total 1\n"
	path := filepath.Join(t.TempDir(), "groups")
	var who labels.Labels
	one, two := labels.FromStrings("tenant", "one"), labels.FromStrings("tenant", "two")
	cfg, deps := pushgateway.Config{Path: path}, pushgateway.Deps{Appendable: sink{}, Bound: boundTo(&who)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	first := open(t, cfg, deps)
	who = one
	require.Equal(t, 200, do(first, "PUT", "/metrics/job/a", gauge).Code)
	state, err := first.State()
	require.NoError(t, err)
	require.NoError(t, first.Run(ctx))

	second := open(t, pushgateway.Config{}, deps)
	require.NoError(t, second.Merge(state))
	for name, p := range map[string]*pushgateway.Pushgateway{"restarted": open(t, cfg, deps), "another": second} {
		for _, other := range []labels.Labels{two, labels.EmptyLabels()} {
			who = other
			w := do(p, "PUT", "/metrics/job/b", counter)
			require.Equal(t, 200, w.Code, "%s server, %s: %s", name, other, w.Body)
		}
		who = one
		w := do(p, "PUT", "/metrics/job/b", counter)
		require.Equal(t, 400, w.Code, "%s server", name)
		require.Contains(t, w.Body.String(), `job="a"`, "one's own groups are named")
	}
}

// A series that two would write is refused without telling whose it is.
func TestGroupsOfOthersAreNotNamed(t *testing.T) {
	var who labels.Labels
	p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}, Bound: boundTo(&who)})
	require.Equal(t, 200, do(p, "PUT", "/metrics/job/a", "m{tenant=\"one\",stage=\"secret\"} 1\n").Code)
	who = labels.FromStrings("tenant", "one")
	w := do(p, "PUT", "/metrics/job/a/stage/secret", "m 1\n")
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "in another group already")
}

// Who is bound to labels uses up its share, not everybody's place.
func TestBoundShare(t *testing.T) {
	var who labels.Labels
	one, two := labels.FromStrings("tenant", "one"), labels.FromStrings("tenant", "two")
	p := open(t, pushgateway.Config{MaxGroups: 8, MaxBytes: 4000}, pushgateway.Deps{Appendable: sink{}, Bound: boundTo(&who)})
	who = one
	for i := range 40 { // what is deleted is remembered, and has its bound as well
		require.Equal(t, 202, do(p, "DELETE", fmt.Sprintf("/metrics/job/gone%d", i), "").Code)
	}
	for i := range 2 {
		require.Equal(t, 200, do(p, "PUT", fmt.Sprintf("/metrics/job/j%d", i), "m 1\n").Code)
	}
	for i := range 40 {
		require.Equal(t, 400, do(p, "PUT", fmt.Sprintf("/metrics/job/bad%d", i), "m 1\nm 1\n").Code)
	}
	w := do(p, "PUT", "/metrics/job/j2", "m 1\n")
	require.Equal(t, 422, w.Code)
	require.Contains(t, w.Body.String(), `there are 2 groups with {tenant="one"} already`)
	long := "# HELP m " + fmt.Sprintf("%01500d", 7) + "\n# TYPE m untyped\nm 2\n"
	w = do(p, "PUT", "/metrics/job/j1", long)
	require.Equal(t, 422, w.Code)
	require.Contains(t, w.Body.String(), "1000 bytes")

	for _, other := range []labels.Labels{two, labels.EmptyLabels()} {
		who = other
		for i := range 2 {
			w := do(p, "PUT", fmt.Sprintf("/metrics/job/j%d", i), "m 1\n")
			require.Equal(t, 200, w.Code, "%s: %s", other, w.Body)
		}
	}
	w = do(p, "PUT", "/metrics/job/j1", long)
	require.Equal(t, 200, w.Code, "who is bound to nothing has the whole: %s", w.Body)

	who = one
	require.Equal(t, 202, do(p, "DELETE", "/metrics/job/j0", "").Code)
	require.Equal(t, 200, do(p, "PUT", "/metrics/job/j2", "m 1\n").Code, "what is deleted makes room")
}
