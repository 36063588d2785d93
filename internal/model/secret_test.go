package model_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestSecretDoesNotShowItself(t *testing.T) {
	s := model.Secret("hunter2")
	var logs bytes.Buffer
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("a", "s", s)
	slog.New(slog.NewTextHandler(&logs, nil)).Info("a", "s", s)
	text := logs.String() + fmt.Sprintf("%v %s %#v %+v", s, s, s, struct{ S model.Secret }{s})
	require.NotContains(t, text, "hunter2")
	require.Contains(t, text, model.Redacted)
	b, err := json.Marshal(s)
	require.NoError(t, err)
	require.Equal(t, `"hunter2"`, string(b), "records keep the clear text; the catalog seals it")
	require.Empty(t, model.Secret("").String())
}
