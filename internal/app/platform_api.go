package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/rules"
	"panoptes/internal/scrape"
)

// filesDirs are the directories below which scrape jobs may name files.
func (a *App) filesDirs() ([]string, error) {
	if len(a.cfg.Scrape.FilesDirs) > 0 {
		return a.cfg.Scrape.FilesDirs, nil
	}
	dir, err := a.ownDir("sd")
	return []string{dir}, err
}

func (a *App) ruleFilesDir() (string, error) {
	if a.cfg.Rules.Dir != "" {
		return a.cfg.Rules.Dir, nil
	}
	return a.ownDir("rules")
}

// ownDir makes a directory below the data directory and returns its whole path.
func (a *App) ownDir(name string) (string, error) {
	dir, err := filepath.Abs(a.cfg.Path(name))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("make the directory %s: %w", a.cfg.Path(name), err)
	}
	return dir, nil
}

// rulesForAPI shows the rules of all servers.
type rulesForAPI struct{ *App }

func (a rulesForAPI) Groups(ctx context.Context) ([]api.RuleGroup, error) {
	names := a.serverNames()
	lists := append(askOthers[[]rules.GroupState](ctx, a.App, methodRules), a.rules.Groups())
	var out []api.RuleGroup
	for _, g := range rules.Merge(lists...) {
		out = append(out, ruleGroup(g, names))
	}
	broken := map[string]string{}
	for _, faults := range append(askOthers[map[string]string](ctx, a.App, methodRuleFaults), a.rules.Status().Faults) {
		maps.Copy(broken, faults)
	}
	for _, source := range slices.Sorted(maps.Keys(broken)) {
		out = append(out, api.RuleGroup{Source: source, File: filepath.IsAbs(source), State: "broken", Error: broken[source], Rules: []api.RuleWithState{}})
	}
	return out, nil
}

// serverNames are the names of the servers that are known, by id.
func (a *App) serverNames() map[string]string {
	out := map[string]string{}
	for _, m := range a.cluster.Members() {
		out[m.ID] = m.Name
	}
	return out
}

// ranks orders what may be said of a group: the worst counts.
var ranks = map[string]int{"inactive": 0, "unknown": 0, "pending": 1, "firing": 2, "broken": 3}

func ruleGroup(g rules.GroupState, names map[string]string) api.RuleGroup {
	out := api.RuleGroup{
		Name: g.Name, Source: g.Source, File: g.File, Node: g.Node, Server: cmp.Or(names[g.Node], g.Node), State: "inactive", Interval: g.Interval,
		QueryOffset: g.QueryOffset, Limit: g.Limit, Evaluated: g.Evaluated, Took: g.Took, Rules: []api.RuleWithState{}, Counts: map[string]int{},
	}
	for _, r := range g.Rules {
		rule := api.RuleWithState{
			Type: r.Type, Name: r.Name, Expr: r.Expr, State: r.State, For: r.For, KeepFiringFor: r.KeepFiringFor, Labels: r.Labels,
			Annotations: r.Annotations, Health: r.Health, Error: r.Error, Evaluated: r.Evaluated, Took: r.Took,
		}
		for _, al := range r.Alerts {
			rule.Alerts = append(rule.Alerts, api.RuleAlert(al))
		}
		out.Rules = append(out.Rules, rule)
		out.Alerts += len(r.Alerts)
		state := r.State
		if _, known := ranks[state]; known {
			out.Counts[state]++
		}
		if r.Health == "err" {
			state = "broken"
			out.Counts[state]++
			out.Error = cmp.Or(out.Error, r.Name+": "+r.Error)
		}
		if ranks[state] > ranks[out.State] {
			out.State = state
		}
	}
	return out
}

func (a rulesForAPI) Try(ctx context.Context, t api.Try) ([]api.Trial, error) {
	bound, err := model.Bound(t.Matchers)
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(rules.RawRecord{Name: "trial", Groups: t.Groups, Matchers: t.Matchers})
	if err != nil {
		return nil, model.DecodeError(err)
	}
	rec, err := rules.ParseRecord(spec)
	if err != nil {
		return nil, err
	}
	ctx = rules.Bind(ctx, bound)
	out := []api.Trial{}
	for _, g := range rec.Groups {
		got, err := a.rules.Try(ctx, g, t.From, t.To)
		if err != nil {
			return nil, err
		}
		out = append(out, trialForAPI(got))
	}
	return out, nil
}

func trialForAPI(t rules.Trial) api.Trial {
	out := api.Trial{Name: t.Name, From: t.From, To: t.To, Interval: t.Interval, Evaluations: t.Evaluations, Capped: t.Capped, Note: t.Note, Rules: []api.RuleTrial{}}
	for _, r := range t.Rules {
		rule := api.RuleTrial{Name: r.Name, Type: r.Type, Series: r.Series, Samples: r.Samples, Pendings: r.Pendings, Errors: r.Errors, Error: r.Error, Firings: []api.Firing{}}
		for _, f := range r.Firings {
			rule.Firings = append(rule.Firings, api.Firing{
				Labels: f.Labels, Annotations: f.Annotations, Value: f.Value, ActiveAt: f.ActiveAt, FiredAt: f.FiredAt, Earlier: f.Earlier, ResolvedAt: f.ResolvedAt,
			})
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// scrapesForAPI shows what all servers scrape.
type scrapesForAPI struct{ *App }

func (a scrapesForAPI) Targets(ctx context.Context) (api.ScrapeTargets, error) {
	all := append(askOthers[scrape.Snapshot](ctx, a.App, methodTargets), a.scrape.Snapshot())
	var out api.ScrapeTargets
	jobs := map[string]api.ScrapeJob{}
	for _, s := range all {
		for _, j := range s.Jobs {
			sum := jobs[j.Job]
			sum.Job, sum.Discovered, sum.Active = j.Job, max(sum.Discovered, j.Discovered), max(sum.Active, j.Active)
			sum.Dropped, sum.Invalid, sum.Example = sum.Dropped+j.Dropped, max(sum.Invalid, j.Invalid), cmp.Or(sum.Example, j.Example)
			jobs[j.Job] = sum
		}
		for _, p := range s.Problems {
			out.Problems = append(out.Problems, api.ScrapeProblem{Job: p.Job, Message: p.Message, Server: s.Node})
		}
	}
	for _, t := range scrape.Latest(all...) {
		out.Targets = append(out.Targets, api.ScrapeTarget{
			Job: t.Job, Labels: t.Labels, Discovered: t.Discovered, URL: t.URL, Health: t.Health, LastError: t.LastError, LastScrape: t.LastScrape,
			Duration: t.Duration.Seconds(), Interval: t.Interval, Timeout: t.Timeout, Server: t.Node, Region: t.Region,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		out.Jobs = append(out.Jobs, jobs[name])
	}
	slices.SortFunc(out.Problems, func(x, y api.ScrapeProblem) int {
		return cmp.Or(cmp.Compare(x.Job, y.Job), cmp.Compare(x.Server, y.Server))
	})
	return out, nil
}

func (a scrapesForAPI) SD() http.Handler { return a.scrape.SD() }
