package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// A spec that is tried before it is saved gets the stored secrets; without a
// record there is nothing to take them from.
func TestReveal(t *testing.T) {
	f := start(t, t.TempDir())
	rec, err := f.Create(t.Context(), "user/a", "sink", []byte(`{"name":"hook","hook":{"url":"s3cret"}}`))
	require.NoError(t, err)
	shown := f.Redact(rec)
	require.Contains(t, string(shown.Spec), model.Redacted)
	full, err := f.Reveal("sink", "hook", shown.Spec)
	require.NoError(t, err)
	require.Contains(t, string(full), "s3cret")
	_, err = f.Reveal("sink", "nobody", shown.Spec)
	require.Error(t, err, "there is no secret to keep")
	_, err = f.Reveal("nonsense", "x", shown.Spec)
	require.ErrorIs(t, err, model.ErrNotFound)
}
