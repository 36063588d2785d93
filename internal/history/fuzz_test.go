package history_test

import (
	"errors"
	"testing"

	"panoptes/internal/history"
	"panoptes/internal/model"
)

func FuzzQuery(f *testing.F) {
	f.Add("", "shop down", "check/")
	f.Add("AQAAAZypN5F7MDFLSk5FMlpWWFpOR0ZRV0dRWDdLQkVYVFM", "% _ ' \" \\", "check/1")
	f.Add("not a cursor", "\x00\xff", "/")
	h, err := history.New(history.Config{Path: f.TempDir() + "/history.db"}, history.Deps{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(h.Close)
	if err := h.Append(f.Context(), event(t0, model.EventState, "check/1", "shop is down"), event(t0, model.EventAudit, "check/2", "x")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, cursor, text, subject string) {
		_, _, err := h.Query(t.Context(), model.EventQuery{Cursor: cursor, Text: text, Subject: subject, Limit: 1})
		var inv model.Invalid
		if err != nil && !errors.As(err, &inv) {
			t.Fatalf("cursor %q, text %q, subject %q: %v", cursor, text, subject, err)
		}
	})
}
