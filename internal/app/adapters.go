package app

import (
	"context"
	"encoding/json"

	"panoptes/internal/alert"
	"panoptes/internal/api"
	"panoptes/internal/catalog"
	"panoptes/internal/model"
	"panoptes/internal/notify"
	"panoptes/internal/probe"
	"panoptes/internal/selfwatch"
)

// The adapters below translate between the types of two parts that must not
// know each other, and do nothing else.

type catalogForAPI struct{ *catalog.Catalog }

func (c catalogForAPI) Apply(ctx context.Context, actor string, docs []api.Doc, dryRun bool) ([]api.Change, error) {
	in := make([]catalog.Doc, len(docs))
	for i, d := range docs {
		in[i] = catalog.Doc(d)
	}
	changes, err := c.Catalog.Apply(ctx, actor, in, dryRun)
	out := make([]api.Change, len(changes))
	for i, ch := range changes {
		out[i] = api.Change{Kind: ch.Kind, Name: ch.Name, Op: ch.Op, Diff: ch.Diff}
	}
	return out, err
}

type receiversForAPI struct {
	alerting *alert.Alerting
}

func (r receiversForAPI) TestReceiver(ctx context.Context, rec model.Receiver) error {
	return r.alerting.TestReceiver(ctx, rec)
}

func (receiversForAPI) Types() []api.TypeInfo {
	var out []api.TypeInfo
	for _, t := range notify.ReceiverTypes() {
		info := api.TypeInfo{Name: t.Name, Label: t.Label}
		for _, f := range t.Fields {
			info.Fields = append(info.Fields, api.Field{Name: f.Name, Type: f.Type, Default: f.Default, Enum: f.Enum, Advanced: f.Advanced, Label: f.Label, Help: f.Help})
		}
		out = append(out, info)
	}
	return out
}

func checkFields(fields []probe.Field) []api.Field {
	out := make([]api.Field, len(fields))
	for i, f := range fields {
		out[i] = api.Field{Name: f.Name, Type: f.Type, Default: f.Default, Enum: f.Enum, Advanced: f.Advanced, Label: f.Label, Help: f.Help}
	}
	return out
}

// ImportAlertmanager turns an alertmanager.yml into documents, and says what
// it could not take over.
func ImportAlertmanager(data []byte) ([]model.Document, []string, error) {
	docs, notes, err := alert.ImportAlertmanager(data)
	out := make([]model.Document, len(docs))
	for i, d := range docs {
		out[i] = model.Document{Kind: d.Kind, Name: d.Name, Spec: json.RawMessage(d.Spec)}
	}
	return out, notes, err
}

// selfRules lists the built-in rules for the pages.
func selfRules() []api.SelfRule {
	texts := func(t selfwatch.Text) map[string]string { return map[string]string{"en": t.EN, "zh-CN": t.ZH} }
	var out []api.SelfRule
	for _, r := range selfwatch.Rules() {
		out = append(out, api.SelfRule{
			Name: r.Name, Threshold: r.Threshold, Unit: r.Unit, Min: r.Min, Max: r.Max, For: r.For, Severity: r.Severity, Level: r.Level,
			Title: texts(r.Title), Runbook: texts(r.Runbook),
		})
	}
	return out
}
