package store_test

import (
	"context"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// Whatever labels a stranger sends: no panic, and what is stored is valid.
func FuzzLabels(f *testing.F) {
	f.Add("up", "job", "node")
	f.Add("", "job", "node")
	f.Add("up", "", "node")
	f.Add("up", "__name__", "twice")
	f.Add("up", "a", "\xff\xfe")
	f.Add("\x00", "ü.dotted name", "")
	s := storetest.New(f, store.Config{})
	now := time.Now().UnixMilli()
	f.Fuzz(func(t *testing.T, metric, name, val string) {
		err := s.Append(context.Background(), model.Batch{{
			Labels: labels.New(labels.Label{Name: "__name__", Value: metric}, labels.Label{Name: name, Value: val}), T: now, V: 1,
		}})
		var inv model.Invalid
		if err != nil {
			require.True(t, errors.As(err, &inv) || errors.Is(err, model.ErrLimit), "%v", err)
			return
		}
		require.NotEmpty(t, metric)
		require.True(t, utf8.ValidString(metric))
		if val != "" { // an empty label is no label
			require.True(t, utf8.ValidString(name) && utf8.ValidString(val))
		}
	})
}
