package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/ingest"
)

// Who sends more replicas than anybody has is refused; others' pairs are not,
// and what is not sent any more makes room.
func TestReplicasOfOneSource(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		who := "hostile"
		_, h := newIngest(t, ingest.Config{}, ingest.Deps{Appendable: db, Source: func(context.Context) string { return who }})
		pair := func(cluster, replica string) prompb.TimeSeries {
			return series("m", time.Now().UnixMilli(), 1, "cluster", cluster, "__replica__", replica)
		}
		send := func(list ...prompb.TimeSeries) int {
			w := postV1(t, h, request(list...))
			return w.Code
		}
		flood := func(of string) int {
			var many []prompb.TimeSeries
			for i := range 10_000 {
				many = append(many, pair("c", fmt.Sprint(of, i)))
			}
			return send(many...)
		}
		require.Equal(t, http.StatusNoContent, flood("a"))
		require.Equal(t, http.StatusUnprocessableEntity, send(pair("more", "a")))
		who = "other"
		require.Equal(t, http.StatusNoContent, send(pair("eu", "a"), pair("eu", "b")))
		who = "hostile"
		<-time.After(61 * time.Minute)
		require.Equal(t, http.StatusNoContent, flood("b"), "nobody sends the first ones any more")
		require.Equal(t, http.StatusUnprocessableEntity, send(pair("more", "a")))
	})
}

// A series that is refused leaves no replica behind.
func TestRefusedSeriesAreNoReplicas(t *testing.T) {
	db := openDB(t)
	_, h := newIngest(t, ingest.Config{MaxSeriesPerSource: 1}, ingest.Deps{Appendable: db})
	var many []prompb.TimeSeries
	for i := range 20_000 {
		many = append(many, series(fmt.Sprint("m", i), ms(0), 1, "cluster", "c", "__replica__", fmt.Sprint("r", i)))
	}
	require.Equal(t, http.StatusUnprocessableEntity, postV1(t, h, request(many...)).Code)
	w := postV1(t, h, request(series("m", ms(0), 1, "cluster", "more", "__replica__", "a")))
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.Contains(t, w.Body.String(), "active series")
}
