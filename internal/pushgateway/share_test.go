package pushgateway_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"panoptes/internal/pushgateway"
)

// Whatever is pushed to whom, and however news get lost, come twice or in
// another order: whole exchanges bring all servers to the same groups.
func TestServersComeTogether(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		const n = 3
		var servers [n]*pushgateway.Pushgateway
		var inbox [n][][]byte
		for i := range servers {
			servers[i] = open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}, Broadcast: func(b []byte) {
				for j := range servers {
					if j != i {
						inbox[j] = append(inbox[j], b)
					}
				}
			}})
		}
		exchange := func(i, j int) {
			a, err := servers[i].State()
			require.NoError(t, err)
			b, err := servers[j].State()
			require.NoError(t, err)
			require.NoError(t, servers[j].Merge(a))
			require.NoError(t, servers[i].Merge(b))
		}
		for range 60 {
			i := rnd.IntN(n)
			path := fmt.Sprintf("/metrics/job/j%d", rnd.IntN(4))
			body := fmt.Sprintf("a%d %d\na%d %d\n", rnd.IntN(2), rnd.IntN(100), 2+rnd.IntN(2), rnd.IntN(100))
			switch rnd.IntN(8) {
			case 0:
				require.Equal(t, 202, do(servers[i], "DELETE", path, "").Code)
			case 1, 2:
				require.Equal(t, 200, do(servers[i], "PUT", path, body).Code)
			case 3, 4:
				require.Equal(t, 200, do(servers[i], "POST", path, body).Code)
			case 5:
				require.Equal(t, 400, do(servers[i], "POST", path, "# TYPE a0 counter\na0 1\na0 1\n").Code)
			case 6:
				exchange(i, rnd.IntN(n))
			default: // news arrive, some of them twice, some never
				for _, k := range rnd.Perm(len(inbox[i])) {
					for range rnd.IntN(3) {
						require.NoError(t, servers[i].Merge(inbox[i][k]))
					}
				}
				inbox[i] = nil
			}
		}
		for range 2 {
			exchange(0, 1)
			exchange(1, 2)
			exchange(0, 2)
		}
		want := do(servers[0], "GET", "/api/v1/metrics", "").Body.String()
		for _, p := range servers[1:] {
			require.Equal(t, want, do(p, "GET", "/api/v1/metrics", "").Body.String(), "seed %d", seed)
		}
	}
}

// A server that was deaf hears of large states by the others' answers.
func TestLargeStatesAreAnswered(t *testing.T) {
	b := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}})
	mute := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}})
	var body strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&body, "m{l=\"%d %s\"} 1\n", i, strings.Repeat("x", 60))
	}
	for i := range 6 {
		require.Equal(t, 200, do(mute, "PUT", fmt.Sprintf("/metrics/job/j%d", i), body.String()).Code)
	}
	state, err := mute.State()
	require.NoError(t, err)
	require.Less(t, len(state), 10_000, "large groups are not in it")
	// give a its groups by way of the file
	path := filepath.Join(t.TempDir(), "g")
	src := open(t, pushgateway.Config{Path: path}, pushgateway.Deps{Appendable: sink{}})
	for i := range 6 {
		require.Equal(t, 200, do(src, "PUT", fmt.Sprintf("/metrics/job/j%d", i), body.String()).Code)
	}
	a := open(t, pushgateway.Config{Path: path}, pushgateway.Deps{Appendable: sink{}, Broadcast: func(m []byte) { require.NoError(t, b.Merge(m)) }})
	state, err = b.State()
	require.NoError(t, err)
	require.NoError(t, a.Merge(state))
	_, total, _ := b.Groups(labels.EmptyLabels(), "", "", 1)
	require.Equal(t, 6, total)
}

func TestOwnerEndsSeriesThatOthersDeleted(t *testing.T) {
	db := openDB(t)
	owner := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: db})
	other := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}, Owns: func(string) bool { return false },
		Broadcast: func(b []byte) { require.NoError(t, owner.Merge(b)) }})
	require.Equal(t, 200, do(owner, "PUT", "/metrics/job/a", "m 1\nn 1\n").Code)
	require.Equal(t, 200, do(other, "PUT", "/metrics/job/a", "m 2\n").Code)
	require.Equal(t, "stale", newest(t, db, false)[`{__name__="n", job="a"}`])
	require.Equal(t, 202, do(other, "DELETE", "/metrics/job/a", "").Code)
	_, total, _ := owner.Groups(labels.EmptyLabels(), "", "", 1)
	require.Zero(t, total)
}

// A counter that is pushed to one server while another one writes what it was
// before never seems to fall.
func TestCounterDoesNotFall(t *testing.T) {
	db, dir := openDB(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		owner := open(t, pushgateway.Config{Path: filepath.Join(dir, "owner")}, pushgateway.Deps{Appendable: db})
		var news [][]byte
		other := open(t, pushgateway.Config{Path: filepath.Join(dir, "other")}, pushgateway.Deps{
			Appendable: db, Owns: func(string) bool { return false }, Broadcast: func(b []byte) { news = append(news, b) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- owner.Run(ctx) }()
		defer func() {
			cancel()
			require.NoError(t, <-done)
		}()
		pass := func() {
			<-time.After(20 * time.Second)
			synctest.Wait()
		}
		deliver := func() {
			for _, b := range news {
				require.NoError(t, owner.Merge(b))
			}
			news = nil
		}
		require.Equal(t, 200, do(other, "PUT", "/metrics/job/a", "m 5\n").Code)
		require.Equal(t, []float64{5}, values(t, db), "what nobody has is stored at once")
		deliver()
		pass()
		require.Equal(t, 200, do(other, "PUT", "/metrics/job/a", "m 10\n").Code)
		pass() // the owner writes what it knows
		deliver()
		got := values(t, db)
		require.Equal(t, 10.0, got[len(got)-1], "when the owner hears of it, it is stored")
		pass()
		require.True(t, slices.IsSorted(values(t, db)), "%v", values(t, db))
	})
}

// values are those of m, in their order.
func values(t *testing.T, db *tsdb.DB) (out []float64) {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next() == chunkenc.ValFloat; {
			_, v := it.At()
			out = append(out, v)
		}
	}
	require.NoError(t, set.Err())
	return out
}

func TestMergeRefusesGarbage(t *testing.T) {
	p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}})
	require.Error(t, p.Merge(nil))
	require.Error(t, p.Merge([]byte("garbage")))
	good, err := p.State()
	require.NoError(t, err)
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x55
		_ = p.Merge(bad) // must not panic
	}
}
