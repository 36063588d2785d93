package alert

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/config"
	amcommon "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/matcher/compat"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/timeinterval"
	pm "github.com/prometheus/common/model"
	"gopkg.in/yaml.v2"

	"panoptes/internal/model"
)

// nobody is the receiver of the root. No record can have its name.
const nobody = "-"

// The settings that a route without a parent inherits.
const (
	defaultGroupWait     = 0 * time.Second
	defaultGroupInterval = 5 * time.Second
	defaultRepeat        = 4 * time.Hour
	maxRepeat            = 180 * 24 * time.Hour
)

var defaultGroupBy = []string{"alertname", "check"}

// build makes a plan. With strict it stops at faults, all of them named;
// without, the records at fault are left out.
func (a *Alerting) build(receivers []model.Receiver, routes []model.Route, inhibitions []model.Inhibition, intervals []model.Interval, strict bool) (*plan, error) {
	var inv model.Invalid
	p := &plan{
		integrations: map[string][]notify.Integration{nobody: nil},
		intervals:    map[string][]timeinterval.TimeInterval{},
	}
	global := config.DefaultGlobalConfig()
	global.ResolveTimeout = pm.Duration(a.cfg.ResolveTimeout)
	p.conf = &config.Config{Global: &global, Templates: []string{}}

	for _, r := range receivers {
		field := at(model.KindReceiver, r.Name)
		if _, ok := p.integrations[r.Name]; ok {
			inv.Add(field, "the name is taken by another receiver")
			continue
		}
		conf, built, err := a.deps.Receivers.Build(r)
		if err != nil {
			inv.AddErr(field, err)
			if !strict {
				// Routes still find it; what they send there is lost, and said so.
				p.integrations[r.Name] = nil
				p.conf.Receivers = append(p.conf.Receivers, config.Receiver{Name: r.Name, Labels: map[string]string{"name": r.Name}})
			}
			continue
		}
		p.integrations[r.Name] = a.guard(r.Name, built)
		p.conf.Receivers = append(p.conf.Receivers, conf)
	}
	for _, iv := range intervals {
		ti, err := decodeInterval(iv)
		if _, ok := p.intervals[iv.Name]; ok {
			err = fmt.Errorf("the name is taken by another interval")
		}
		if err != nil {
			inv.AddErr(at(model.KindInterval, iv.Name), err)
			continue
		}
		p.intervals[iv.Name] = ti
		p.conf.TimeIntervals = append(p.conf.TimeIntervals, config.TimeInterval{Name: iv.Name, TimeIntervals: ti})
	}
	for _, in := range inhibitions {
		rule, err := decodeInhibition(in)
		if err != nil {
			inv.AddErr(at(model.KindInhibition, in.Name), err)
			continue
		}
		p.conf.InhibitRules = append(p.conf.InhibitRules, rule)
	}
	p.conf.Route = tree(routes, p, &inv)
	p.conf.Receivers = append(p.conf.Receivers, config.Receiver{Name: nobody, Labels: map[string]string{"name": nobody}})
	p.routes = dispatch.NewRoute(p.conf.Route, nil)
	if err := inv.Err(); err != nil && strict {
		return nil, err
	}
	return p, nil
}

func at(kind, name string) string { return fmt.Sprintf("%s %q", kind, name) }

// tree makes the routing tree. Its root is ours: it groups by alertname and
// check and sends to nobody. The records without a parent hang below it, so that
// they may have matchers and times; the ones that match everything come last.
func tree(routes []model.Route, p *plan, inv *model.Invalid) *config.Route {
	wait, interval, repeat := pm.Duration(defaultGroupWait), pm.Duration(defaultGroupInterval), pm.Duration(defaultRepeat)
	root := &config.Route{
		Receiver: nobody, GroupByStr: defaultGroupBy, GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
	}
	for _, l := range defaultGroupBy {
		root.GroupBy = append(root.GroupBy, pm.LabelName(l))
	}
	ordered := slices.Clone(routes)
	slices.SortStableFunc(ordered, func(x, y model.Route) int {
		if x.Position != y.Position {
			return x.Position - y.Position
		}
		return strings.Compare(x.Name, y.Name)
	})
	index := map[string]int{} // by name and id
	for i, r := range ordered {
		if j, ok := index[r.Name]; ok && ordered[j].Name == r.Name {
			inv.Add(at(model.KindRoute, r.Name), "the name is taken by another route")
			continue
		}
		index[r.Name] = i
	}
	for i, r := range ordered {
		if _, ok := index[r.ID]; r.ID != "" && !ok {
			index[r.ID] = i
		}
	}
	nodes := make([]*config.Route, len(ordered))
	for i, r := range ordered {
		n, err := decodeRoute(r)
		if err == nil {
			err = references(r, p)
		}
		if err != nil {
			inv.AddErr(at(model.KindRoute, r.Name), err)
			continue
		}
		nodes[i] = n
	}
	var last []*config.Route
	for i, r := range ordered {
		n := nodes[i]
		if n == nil || index[r.Name] != i {
			continue
		}
		if r.Parent == "" {
			if len(n.Matchers) == 0 && !n.Continue {
				last = append(last, n)
			} else {
				root.Routes = append(root.Routes, n)
			}
			continue
		}
		j, ok := index[r.Parent]
		switch {
		case !ok:
			inv.Add(at(model.KindRoute, r.Name)+".parent", "there is no route %q; leave it empty for a route at the top", r.Parent)
		case circular(ordered, index, i):
			inv.Add(at(model.KindRoute, r.Name)+".parent", "the route is its own ancestor by way of %q", r.Parent)
		case nodes[j] == nil: // its fault is named already
		default:
			nodes[j].Routes = append(nodes[j].Routes, n)
		}
	}
	root.Routes = append(root.Routes, last...)
	return root
}

// circular reports whether the parents of route i lead back to it.
func circular(routes []model.Route, index map[string]int, i int) bool {
	j := i
	for range len(routes) {
		if routes[j].Parent == "" {
			return false
		}
		next, ok := index[routes[j].Parent]
		if !ok {
			return false
		}
		if next == i {
			return true
		}
		j = next
	}
	return true
}

// references checks that what a route names exists.
func references(r model.Route, p *plan) error {
	var inv model.Invalid
	if _, ok := p.integrations[r.Receiver]; r.Receiver != "" && (!ok || r.Receiver == nobody) {
		inv.Add("receiver", "there is no receiver %q", r.Receiver)
	}
	for i, t := range r.MuteTimes {
		if _, ok := p.intervals[t]; !ok {
			inv.Add(model.Index("mute_time_intervals", i), "there is no interval %q", t)
		}
	}
	for i, t := range r.ActiveTimes {
		if _, ok := p.intervals[t]; !ok {
			inv.Add(model.Index("active_time_intervals", i), "there is no interval %q", t)
		}
	}
	return inv.Err()
}

// ValidateRoute checks a route on its own, without what it refers to.
func ValidateRoute(r model.Route) error {
	_, err := decodeRoute(r)
	return err
}

func decodeRoute(r model.Route) (*config.Route, error) {
	var inv model.Invalid
	n := &config.Route{Receiver: r.Receiver, GroupByStr: r.GroupBy, Continue: r.Continue, MuteTimeIntervals: r.MuteTimes, ActiveTimeIntervals: r.ActiveTimes}
	if r.Parent == "" && r.Receiver == "" {
		inv.Add("receiver", "must be given on a route without a parent")
	}
	n.Matchers = parseMatchers(r.Matchers, "matchers", &inv)
	seen := map[string]bool{}
	for i, l := range r.GroupBy {
		field := model.Index("group_by", i)
		switch {
		case seen[l]:
			inv.Add(field, "%q stands in the list twice", l)
		case l == "...":
			n.GroupByAll = true
			if len(r.GroupBy) > 1 {
				inv.Add(field, "\"...\" means all labels and stands alone")
			}
		case !labelName(l):
			inv.Add(field, "%q is no label name", l)
		default:
			n.GroupBy = append(n.GroupBy, pm.LabelName(l))
		}
		seen[l] = true
	}
	if r.GroupBy != nil && len(r.GroupBy) == 0 {
		n.GroupBy = []pm.LabelName{}
	}
	n.GroupWait = parseDuration(r.GroupWait, "group_wait", 0, 24*time.Hour, &inv)
	n.GroupInterval = parseDuration(r.GroupInterval, "group_interval", time.Second, 7*24*time.Hour, &inv)
	n.RepeatInterval = parseDuration(r.RepeatInterval, "repeat_interval", time.Second, maxRepeat, &inv)
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return n, nil
}

func parseDuration(s, field string, lo, hi time.Duration, inv *model.Invalid) *pm.Duration {
	if s == "" {
		return nil
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		inv.AddErr(field, err)
		return nil
	}
	if d.D() < lo || d.D() > hi {
		inv.Add(field, "must lie between %s and %s", model.Duration(lo), model.Duration(hi))
		return nil
	}
	out := pm.Duration(d)
	return &out
}

// anyNames lets labels have any name in UTF-8, as those of series may have.
// Alertmanager's parts share one setting in the process, which allows the names
// of old alone until somebody says otherwise.
var anyNames = sync.OnceFunc(func() {
	compat.InitFromFlags(slog.New(slog.DiscardHandler), featurecontrol.NoopFlags{})
})

// labelName says whether s may stand in a list of labels. With a comma or a
// space in it, it is more likely several names in one text.
func labelName(s string) bool {
	anyNames()
	return compat.IsValidLabelName(pm.LabelName(s)) && !strings.ContainsAny(s, ", ")
}

// parseMatchers reads matchers in Alertmanager's syntax.
func parseMatchers(list []string, field string, inv *model.Invalid) amcommon.Matchers {
	var out amcommon.Matchers
	for i, s := range list {
		if len(s) > 4096 {
			inv.Add(model.Index(field, i), "is longer than 4096 bytes")
			continue
		}
		anyNames()
		ms, err := compat.Matchers(s, "api")
		if err == nil && len(ms) == 0 {
			err = fmt.Errorf("is empty")
		}
		if err != nil {
			inv.Add(model.Index(field, i), "%s; write for example severity=~\"critical|warning\"", err)
			continue
		}
		out = append(out, ms...)
	}
	return out
}

// ValidateInhibition checks an inhibition.
func ValidateInhibition(in model.Inhibition) error {
	_, err := decodeInhibition(in)
	return err
}

func decodeInhibition(in model.Inhibition) (amcommon.InhibitRule, error) {
	var inv model.Invalid
	rule := amcommon.InhibitRule{Name: in.Name, Equal: in.Equal}
	rule.SourceMatchers = parseMatchers(in.SourceMatchers, "source_matchers", &inv)
	rule.TargetMatchers = parseMatchers(in.TargetMatchers, "target_matchers", &inv)
	if len(in.SourceMatchers) == 0 {
		inv.Add("source_matchers", "must be given: the alerts that mute others")
	}
	if len(in.TargetMatchers) == 0 {
		inv.Add("target_matchers", "must be given: the alerts that are muted")
	}
	for i, l := range in.Equal {
		if !labelName(l) {
			inv.Add(model.Index("equal", i), "%q is no label name", l)
		}
	}
	return rule, inv.Err()
}

// ValidateInterval checks an interval.
func ValidateInterval(iv model.Interval) error {
	_, err := decodeInterval(iv)
	return err
}

func decodeInterval(iv model.Interval) (out []timeinterval.TimeInterval, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, model.Invalid{{Field: "time_intervals", Msg: fmt.Sprintf("cannot be read: %v", p)}}
		}
	}()
	const hint = `; write for example [{"times":[{"start_time":"22:00","end_time":"24:00"}],"weekdays":["monday:friday"],"location":"Europe/Berlin"}]`
	if len(iv.TimeIntervals) > 64<<10 {
		return nil, model.Invalid{{Field: "time_intervals", Msg: "is larger than 64 KiB"}}
	}
	var v []any
	if err := json.Unmarshal(iv.TimeIntervals, &v); err != nil || len(v) == 0 {
		return nil, model.Invalid{{Field: "time_intervals", Msg: "must be a list of times" + hint}}
	}
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		msg := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: ")
		return nil, model.Invalid{{Field: "time_intervals", Msg: msg + hint}}
	}
	return out, nil
}

// matchAll reports whether every matcher fits.
func matchAll(ms []*labels.Matcher, set pm.LabelSet) bool {
	for _, m := range ms {
		if !m.Matches(string(set[pm.LabelName(m.Name)])) {
			return false
		}
	}
	return true
}
