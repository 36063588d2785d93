package alert_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/notify"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestImportAlertmanager(t *testing.T) {
	yml, err := os.ReadFile("testdata/rich.yml")
	require.NoError(t, err)
	docs, notes, err := alert.ImportAlertmanager(yml)
	require.NoError(t, err)
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(map[string]any{"documents": docs, "notes": notes}))
	if *update {
		require.NoError(t, os.WriteFile("testdata/rich.golden.json", got.Bytes(), 0o644))
	}
	want, err := os.ReadFile("testdata/rich.golden.json")
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Fatalf("import (-want +got):\n%s", diff)
	}
	// What comes out is accepted as a whole.
	apply(t, docs)
	// Importing again gives the same names.
	again, _, err := alert.ImportAlertmanager(yml)
	require.NoError(t, err)
	require.Equal(t, docs, again)
}

func apply(t *testing.T, docs []alert.Doc) {
	t.Helper()
	var receivers []model.Receiver
	var routes []model.Route
	var inhibitions []model.Inhibition
	var intervals []model.Interval
	for _, d := range docs {
		var err error
		switch d.Kind {
		case model.KindReceiver:
			var v model.Receiver
			err = json.Unmarshal(d.Spec, &v)
			receivers = append(receivers, v)
		case model.KindRoute:
			var v model.Route
			err = model.DecodeStrict(d.Spec, &v)
			routes = append(routes, v)
		case model.KindInhibition:
			var v model.Inhibition
			err = model.DecodeStrict(d.Spec, &v)
			inhibitions = append(inhibitions, v)
		case model.KindInterval:
			var v model.Interval
			err = model.DecodeStrict(d.Spec, &v)
			intervals = append(intervals, v)
		}
		require.NoError(t, err, d.Name)
		require.NoError(t, model.CheckName(d.Name))
	}
	n, err := notify.New(notify.Config{}, notify.Deps{})
	require.NoError(t, err)
	a, err := alert.New(alert.Config{Dir: t.TempDir()}, alert.Deps{Receivers: n})
	require.NoError(t, err)
	defer a.Close()
	require.NoError(t, a.Validate(receivers, routes, inhibitions, intervals))
}

func TestImportRefuses(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		_, _, err := alert.ImportAlertmanager([]byte(yml))
		require.ErrorContains(t, err, want)
	}
	f("", "no route")
	f("route: {receiver: x}", "undefined receiver")
	f("surprise: 1", "surprise")
	f("[", "yaml")
	f("route: {receiver: x}\nreceivers: [{name: x, slack_configs: [null]}]", "Slack")
}

func FuzzImport(f *testing.F) {
	yml, err := os.ReadFile("testdata/rich.yml")
	require.NoError(f, err)
	f.Add(yml)
	f.Add([]byte("route: {receiver: x}\nreceivers: [{name: x, webhook_configs: [{url: 'http://x'}]}]"))
	f.Add([]byte("route: {receiver: '!', routes: [null, {match: {a: b}}]}\nreceivers: [{name: '!'}]\n"))
	f.Fuzz(func(t *testing.T, yml []byte) {
		docs, _, err := alert.ImportAlertmanager(yml)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, d := range docs {
			require.True(t, json.Valid(d.Spec))
			require.NoError(t, model.CheckName(d.Name))
			require.False(t, seen[d.Kind+"/"+d.Name])
			seen[d.Kind+"/"+d.Name] = true
		}
	})
}
