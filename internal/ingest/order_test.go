package ingest_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"

	"panoptes/internal/ingest"
)

// The order of series between requests must make no difference: it stays, is
// shuffled, lacks series, and has ones whose labels begin like another's; with
// a small cache they are forgotten in between.
func TestV1SeriesInAnyOrder(t *testing.T) {
	for _, known := range []int{0, 256} {
		t.Run(fmt.Sprintf("%d known", known), func(t *testing.T) {
			theirDB, ourDB := openDB(t), openDB(t)
			theirs := remote.NewWriteHandler(slog.New(slog.DiscardHandler), nil, theirDB, remoteapi.MessageTypes{remoteapi.WriteV1MessageType}, false, false, false)
			ours, _ := newHandler(t, ingest.Config{MaxKnownSeries: known}, ourDB)
			rnd := rand.New(rand.NewPCG(1, 2))
			var all [][]string // the labels behind the name
			for i := range 60 {
				n := fmt.Sprint(i)
				all = append(all, []string{"job", n}, []string{"job", n, "x", "1"}, []string{"job", n, "x", "1", "y", "2"})
			}
			at := ms(-30 * time.Minute)
			for round := range 60 {
				if round%3 == 2 {
					rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				}
				var ts []prompb.TimeSeries
				for i, more := range all {
					if round%5 == 4 && rnd.IntN(3) == 0 {
						continue
					}
					at++
					s := series("m", at, float64(at), more...)
					if i%10 == 0 { // two samples
						at++
						s.Samples = append(s.Samples, prompb.Sample{Timestamp: at, Value: float64(at)})
					}
					ts = append(ts, s)
				}
				for _, h := range []http.Handler{theirs, ours} {
					rec := postV1(t, h, request(ts...))
					require.Equal(t, 204, rec.Code, rec.Body)
				}
			}
			if diff := cmp.Diff(dump(t, theirDB), dump(t, ourDB)); diff != "" {
				t.Fatalf("stored data differ (-theirs +ours):\n%s", diff)
			}
		})
	}
}
