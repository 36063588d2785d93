package query_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/query"
)

func TestAnswersSayThatTheyMayBeIncomplete(t *testing.T) {
	db := openDB(t)
	fill(t, db, time.Now())
	why := "this server is catching up"
	h := newQuery(t, query.Config{Dir: t.TempDir()}, query.Deps{Storage: db, Stats: stats{db}, Incomplete: func() string { return why }}).Handler()
	ask := func(path string, form url.Values) (warnings []string) {
		rec := do(h, http.MethodGet, path, form)
		require.Equal(t, http.StatusOK, rec.Code, rec.Body)
		var answer struct {
			Data     json.RawMessage `json:"data"`
			Warnings []string        `json:"warnings"`
		}
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
		require.NotEqual(t, `[]`, string(answer.Data))
		return answer.Warnings
	}
	paths := map[string]url.Values{
		"/api/v1/query": {"query": {"up"}}, "/api/v1/labels": nil, "/api/v1/label/job/values": nil, "/api/v1/series": {"match[]": {"up"}},
	}
	for path, form := range paths {
		require.Equal(t, []string{"the answer may be incomplete: this server is catching up"}, ask(path, form), path)
	}
	why = ""
	for path, form := range paths {
		require.Empty(t, ask(path, form), path)
	}
}
