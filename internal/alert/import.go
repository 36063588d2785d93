package alert

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/alertmanager/config"
	"gopkg.in/yaml.v2"

	"panoptes/internal/model"
)

// Doc is one record to be created.
type Doc struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

const maxImport = 4 << 20

// oneGroup is a label that no alert has: grouping by it makes one group of all,
// which Alertmanager does when group_by is left out.
const oneGroup = "__one_group__"

// importer collects records and what people must know about them.
type importer struct {
	conf  *config.Config
	raw   map[string]any
	docs  []Doc
	notes []string
	// names maps what the file calls a thing to the record's name, by kind.
	names map[string]map[string]string
}

// ImportAlertmanager turns an alertmanager.yml into records. What cannot be
// taken over as it is stands in notes; nothing is left out silently.
func ImportAlertmanager(yml []byte) (docs []Doc, notes []string, err error) {
	if len(yml) > maxImport {
		return nil, nil, fmt.Errorf("the file is larger than %d MiB: %w", maxImport>>20, model.ErrTooLarge)
	}
	defer func() {
		// Alertmanager's decoder meets whatever somebody uploads.
		if p := recover(); p != nil {
			docs, notes, err = nil, nil, model.Invalid{{Msg: fmt.Sprintf("not an alertmanager.yml: %v", p)}}
		}
	}()
	conf, err := config.Load(string(yml))
	if err != nil {
		return nil, nil, model.Invalid{{Msg: "not a valid alertmanager.yml: " + strings.ReplaceAll(err.Error(), "\n", " ")}}
	}
	var v any
	if err := yaml.Unmarshal(yml, &v); err != nil {
		return nil, nil, model.Invalid{{Msg: "not valid YAML: " + err.Error()}}
	}
	raw, _ := tidy(v).(map[string]any)
	im := &importer{conf: conf, raw: raw, names: map[string]map[string]string{}}
	im.receivers()
	im.intervals()
	im.inhibitions()
	im.route(conf.Route, "", "default", 0)
	im.rest()
	return im.docs, im.notes, nil
}

func (im *importer) note(format string, args ...any) {
	im.notes = append(im.notes, fmt.Sprintf(format, args...))
}

func (im *importer) add(kind, name string, spec any) {
	b, err := json.Marshal(spec)
	if err != nil {
		im.note("%s %q cannot be written: %s", kind, name, err)
		return
	}
	im.docs = append(im.docs, Doc{kind, name, b})
}

// name makes a record's name of what the file calls a thing; each once.
func (im *importer) name(kind, old string) string {
	if im.names[kind] == nil {
		im.names[kind] = map[string]string{}
	}
	name := old
	if model.CheckName(name) != nil {
		name = slug(old, 100)
		if name == "" {
			name = kind
		}
		im.note("%s %q is now called %q: a name is made of letters, digits, spaces and . _ @ : / + - ( )", kind, old, name)
	}
	name = im.unique(kind, name)
	im.names[kind][old] = name
	return name
}

func (im *importer) unique(kind, name string) string {
	taken := func(n string) bool {
		return slices.ContainsFunc(im.docs, func(d Doc) bool { return d.Kind == kind && d.Name == n })
	}
	out := name
	for i := 2; taken(out); i++ {
		out = fmt.Sprintf("%s (%d)", name, i)
	}
	return out
}

// slug keeps the characters that a name may have.
func slug(s string, limit int) string {
	var b strings.Builder
	gap := false
	for _, r := range s {
		ok := r == '.' || r == '_' || r == '-' || r == ':' || r == '/' || r == '@' || model.CheckName(string(r)) == nil
		if !ok {
			gap = b.Len() > 0
			continue
		}
		if b.Len() == 0 && model.CheckName(string(r)) != nil {
			continue // a name begins with a letter or digit
		}
		if b.Len()+5 > limit {
			break
		}
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (im *importer) intervals() {
	add := func(name string, times any) {
		text, err := yaml.Marshal(times)
		if err != nil {
			im.note("time interval %q cannot be written: %s", name, err)
			return
		}
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			im.note("time interval %q cannot be read: %s", name, err)
			return
		}
		list, err := json.Marshal(tidy(v))
		if err != nil {
			im.note("time interval %q cannot be written: %s", name, err)
			return
		}
		n := im.name(model.KindInterval, name)
		im.add(model.KindInterval, n, model.Interval{Name: n, TimeIntervals: list})
	}
	for _, t := range im.conf.MuteTimeIntervals {
		add(t.Name, t.TimeIntervals)
	}
	for _, t := range im.conf.TimeIntervals {
		add(t.Name, t.TimeIntervals)
	}
}

func (im *importer) inhibitions() {
	for i, r := range im.conf.InhibitRules {
		in := model.Inhibition{
			Name:           r.Name,
			SourceMatchers: matcherStrings(r.SourceMatch, r.SourceMatchRE, r.SourceMatchers),
			TargetMatchers: matcherStrings(r.TargetMatch, r.TargetMatchRE, r.TargetMatchers),
			Equal:          r.Equal,
		}
		if len(in.SourceMatchers) == 0 || len(in.TargetMatchers) == 0 {
			im.note("inhibit_rules[%d] has no matchers for its source or target and is left out: it would mute everything or nothing", i)
			continue
		}
		if in.Name == "" {
			in.Name = im.unique(model.KindInhibition, slug(strings.Join(in.SourceMatchers, " "), 50)+" - "+slug(strings.Join(in.TargetMatchers, " "), 50))
		} else {
			in.Name = im.name(model.KindInhibition, in.Name)
		}
		if err := ValidateInhibition(in); err != nil {
			im.note("inhibition %q is left out: %s", in.Name, err)
			continue
		}
		im.add(model.KindInhibition, in.Name, in)
	}
}

// route adds a route and those below it. Names come from receiver and matchers,
// so that importing a changed file again finds the same records.
func (im *importer) route(r *config.Route, parent, name string, position int) {
	out := model.Route{
		Name: im.unique(model.KindRoute, name), Parent: parent, Position: position, Receiver: im.names[model.KindReceiver][r.Receiver],
		Matchers: matcherStrings(r.Match, r.MatchRE, r.Matchers), GroupBy: r.GroupByStr, Continue: r.Continue,
		MuteTimes: im.renamed(r.MuteTimeIntervals), ActiveTimes: im.renamed(r.ActiveTimeIntervals),
	}
	if r.GroupWait != nil {
		out.GroupWait = r.GroupWait.String()
	}
	if r.GroupInterval != nil {
		out.GroupInterval = r.GroupInterval.String()
	}
	if r.RepeatInterval != nil {
		out.RepeatInterval = r.RepeatInterval.String()
	}
	if len(out.GroupBy) == 0 && (parent == "" || r.GroupByStr != nil) {
		out.GroupBy = []string{oneGroup}
		im.note("route %q has no group_by: its alerts are one group, as before; naming labels, for example alertname, is usually better", out.Name)
	}
	if parent == "" {
		// The defaults of Alertmanager, which are slower than ours.
		for _, d := range []struct {
			at  *string
			def string
		}{{&out.GroupWait, "30s"}, {&out.GroupInterval, "5m"}, {&out.RepeatInterval, "4h"}} {
			if *d.at == "" {
				*d.at = d.def
			}
		}
	}
	if len(r.Labels) > 0 {
		im.note("labels of route %q are not taken over", out.Name)
	}
	if err := ValidateRoute(out); err != nil {
		im.note("route %q must be changed before it can be stored: %s", out.Name, err)
	}
	im.add(model.KindRoute, out.Name, out)
	for i, c := range r.Routes {
		if c == nil {
			continue
		}
		label := slug(strings.Join(matcherStrings(c.Match, c.MatchRE, c.Matchers), " "), 60)
		rc := im.names[model.KindReceiver][c.Receiver]
		switch {
		case rc == "" && label == "":
			label = "all"
		case label == "":
			label = rc
		case rc != "":
			label = slug(rc, 40) + ": " + label
		}
		im.route(c, out.Name, label, (i+1)*10)
	}
}

func (im *importer) renamed(list []string) []string {
	var out []string
	for _, n := range list {
		out = append(out, im.names[model.KindInterval][n])
	}
	return out
}

// rest tells of the sections that have no record.
func (im *importer) rest() {
	for _, t := range im.conf.Templates {
		im.note("templates %s are not taken over: write their text into the receivers that use them", t)
	}
	if g, ok := im.raw["global"].(map[string]any); ok {
		if v, ok := g["resolve_timeout"]; ok {
			im.note("global.resolve_timeout (%v) is not taken over: alerts without an end are resolved after 5m", v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(im.raw)) {
		if !slices.Contains([]string{"global", "route", "receivers", "inhibit_rules", "templates", "time_intervals", "mute_time_intervals"}, k) {
			im.note("%s is not taken over", k)
		}
	}
}

// matcherStrings writes the three forms of matchers as one.
func matcherStrings(eq map[string]string, re any, ms any) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(eq)) {
		out = append(out, fmt.Sprintf("%s=%q", k, eq[k]))
	}
	rv := reflect.ValueOf(re)
	var names []string
	for _, k := range rv.MapKeys() {
		names = append(names, k.String())
	}
	slices.Sort(names)
	for _, k := range names {
		b, err := yaml.Marshal(rv.MapIndex(reflect.ValueOf(k)).Interface())
		var s string
		if err == nil && yaml.Unmarshal(b, &s) == nil {
			out = append(out, fmt.Sprintf("%s=~%q", k, s))
		}
	}
	mv := reflect.ValueOf(ms)
	for i := range mv.Len() {
		if s, ok := mv.Index(i).Interface().(fmt.Stringer); ok {
			out = append(out, s.String())
		}
	}
	return out
}

// tidy turns what the YAML decoder makes into what JSON can say.
func tidy(v any) any {
	switch t := v.(type) {
	case map[any]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			out[fmt.Sprint(k)] = tidy(e)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = tidy(e)
		}
		return out
	case nil, string, bool, int, int64, uint64:
		return t
	case float64:
		if _, err := json.Marshal(t); err != nil {
			return fmt.Sprint(t)
		}
		return t
	}
	return fmt.Sprint(v)
}
