package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"panoptes/internal/alert"
	"panoptes/internal/auth"
	"panoptes/internal/catalog"
	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/internal/notify"
	"panoptes/internal/probe"
	"panoptes/internal/rules"
	"panoptes/internal/scrape"
	"panoptes/internal/selfwatch"
	"panoptes/internal/verdict"
)

// kinds lists what the catalog keeps. Each kind's rules live with the role
// that uses the record; here they are put together.
// fileDirs are the directories below which scrape jobs may name files.
func kinds(probes []probe.Kind, fileDirs []string) []catalog.Kind {
	return []catalog.Kind{
		{
			Name: model.KindRegion, Plural: "regions",
			Normalize: plain(func(r *model.Region, _ catalog.View) error {
				var inv model.Invalid
				inv.AddErr("", model.CheckName(r.Name))
				if r.Name == "*" || strings.ContainsAny(r.Name, ",=%") {
					inv.Add("name", "must not be * and must not contain any of , = %%")
				}
				if r.Weight < 0 || r.Weight > 1000 {
					inv.Add("weight", "must lie between 0 and 1000; 0 means 1")
				}
				return inv.Err()
			}),
		},
		{
			Name: model.KindCheck, Plural: "checks",
			Normalize: plain(func(c *model.Check, v catalog.View) error {
				if old, ok := v.Old(); ok {
					c.ID = old.ID
				}
				var inv model.Invalid
				inv.AddErr("", probe.Normalize(probes, c))
				if _, err := verdict.ParsePolicy(c.Policy); err != nil {
					inv.AddErr("policy", unfield(err))
				}
				inv.AddErr("parent", parentLoop(c, v))
				return inv.Err()
			}),
			References: func(spec json.RawMessage) []catalog.Ref {
				var c struct {
					Parent string `json:"parent"`
				}
				if json.Unmarshal(spec, &c) != nil || c.Parent == "" {
					return nil
				}
				return []catalog.Ref{{Kind: model.KindCheck, IDOrName: c.Parent, Field: "parent"}}
			},
			Secrets: func(spec json.RawMessage) []string {
				var c struct {
					Type string `json:"type"`
				}
				if json.Unmarshal(spec, &c) != nil {
					return nil
				}
				k, ok := probe.Find(probes, c.Type)
				if !ok {
					return nil
				}
				var out []string
				for _, f := range k.Schema() {
					if f.Type == "secret" {
						out = append(out, c.Type+"."+f.Name)
					}
				}
				return out
			},
		},
		{
			Name: model.KindMaintenance, Plural: "maintenances",
			Normalize: plain(func(m *model.Maintenance, _ catalog.View) error {
				var inv model.Invalid
				inv.AddErr("", model.CheckName(m.Name))
				inv.AddErr("", verdict.ValidateMaintenance(*m))
				return inv.Err()
			}),
			References: func(spec json.RawMessage) []catalog.Ref {
				var m struct {
					Checks []string `json:"checks"`
				}
				if json.Unmarshal(spec, &m) != nil {
					return nil
				}
				refs := make([]catalog.Ref, len(m.Checks))
				for i, c := range m.Checks {
					refs[i] = catalog.Ref{Kind: model.KindCheck, IDOrName: c, Field: model.Index("checks", i)}
				}
				return refs
			},
		},
		{
			Name: model.KindReceiver, Plural: "receivers",
			Normalize: plain(func(r *model.Receiver, _ catalog.View) error {
				var inv model.Invalid
				inv.AddErr("", model.CheckName(r.Name))
				_, err := notify.Decode(*r)
				inv.AddErr("", err)
				return inv.Err()
			}),
			Secrets: notify.ReceiverSecrets,
		},
		{
			Name: model.KindInterval, Plural: "intervals",
			Normalize: plain(func(iv *model.Interval, _ catalog.View) error {
				var inv model.Invalid
				inv.AddErr("", model.CheckName(iv.Name))
				inv.AddErr("", alert.ValidateInterval(*iv))
				return inv.Err()
			}),
		},
		{
			Name: model.KindInhibition, Plural: "inhibitions",
			Normalize: plain(func(in *model.Inhibition, _ catalog.View) error {
				var inv model.Invalid
				inv.AddErr("", model.CheckName(in.Name))
				inv.AddErr("", alert.ValidateInhibition(*in))
				return inv.Err()
			}),
		},
		{
			Name: model.KindRoute, Plural: "routes",
			Normalize: plain(func(r *model.Route, v catalog.View) error {
				var inv model.Invalid
				inv.AddErr("", model.CheckName(r.Name))
				inv.AddErr("", alert.ValidateRoute(*r))
				inv.AddErr("parent", routeTree(r, v))
				return inv.Err()
			}),
			References: routeReferences,
		},
		{
			Name: model.KindUser, Plural: "users",
			Normalize: withOld(auth.NormalizeUser), Hidden: auth.HiddenUser,
		},
		{
			Name: model.KindKey, Plural: "keys",
			Normalize: withOld(auth.NormalizeKey), Hidden: auth.HiddenKey,
		},
		{
			Name: model.KindNode, Plural: "nodes", Internal: true,
			Normalize: plain(func(n *model.Node, _ catalog.View) error {
				var inv model.Invalid
				inv.AddErr("node", model.CheckName(n.Name))
				if n.ID == "" || n.KeyHash == "" || n.Role == "" {
					inv.Add("name", "a node has an id, a role and the hash of its key")
				}
				return inv.Err()
			}),
		},
		{
			Name: model.KindToken, Plural: "tokens", Internal: true, Hidden: []string{"hash"},
			Normalize: plain(func(t *model.Token, _ catalog.View) error {
				if t.Name == "" || t.Hash == "" {
					return model.Invalid{{Field: "name", Msg: "a token has an id and a hash"}}
				}
				return nil
			}),
		},
		{
			Name: model.KindScrape, Plural: "scrapes", Normalize: withOld(scrape.NormalizeWithin(fileDirs)), Shape: scrape.Shape, Secrets: scrape.Secrets,
		},
		{
			Name: model.KindRules, Plural: "rules", Normalize: normalizeRules,
		},
		{
			Name: model.KindHostGroup, Plural: "hostgroups",
			Normalize: plain(func(g *model.HostGroup, _ catalog.View) error { return g.Validate() }),
		},
		{
			Name: model.KindSetting, Plural: "settings",
			Normalize: plain(func(s *model.Setting, _ catalog.View) error {
				var err error
				switch s.Name {
				case settingRetention:
					_, err = parseRetention(s.Value)
				case settingSelf:
					_, err = selfwatch.ParseSettings(s.Value)
				case settingNotifications:
					_, err = parseNotifications(s.Value)
				case settingAgentUpdate, settingAgentUpdateState:
					err = parseAgentUpdate(s.Name, s.Value)
				default:
					return model.Invalid{{Field: "name", Msg: fmt.Sprintf("there is no setting %q; known: %s, %s, %s", s.Name, settingRetention, settingSelf, settingNotifications)}}
				}
				var inv model.Invalid
				if errors.As(err, &inv) {
					var out model.Invalid
					out.AddErr("value", inv)
					return out
				}
				return err
			}),
		},
	}
}

// plain decodes strictly into T, lets check complete and judge it, and encodes
// it again: the canonical form.
func plain[T any](check func(*T, catalog.View) error) func(json.RawMessage, catalog.View) (json.RawMessage, error) {
	return func(spec json.RawMessage, v catalog.View) (json.RawMessage, error) {
		var t T
		if err := model.DecodeStrict(spec, &t); err != nil {
			return nil, err
		}
		if err := check(&t, v); err != nil {
			return nil, err
		}
		return json.Marshal(t)
	}
}

func normalizeRules(spec json.RawMessage, v catalog.View) (json.RawMessage, error) {
	old, _ := v.Old()
	out, err := rules.Normalize(spec, old.Spec)
	if err != nil {
		return nil, err
	}
	return out, rules.Fits(out, old, v.List(model.KindRules))
}

func withOld(normalize func(spec, old json.RawMessage) (json.RawMessage, error)) func(json.RawMessage, catalog.View) (json.RawMessage, error) {
	return func(spec json.RawMessage, v catalog.View) (json.RawMessage, error) {
		old, _ := v.Old()
		return normalize(spec, old.Spec)
	}
}

// unfield takes the field off an error whose place the caller knows better.
func unfield(err error) error { return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "policy: ")) }

// parentLoop refuses a check that would be its own ancestor.
func parentLoop(c *model.Check, v catalog.View) error {
	seen := map[string]bool{c.Name: true}
	for at := c.Parent; at != ""; {
		if at == c.Name { // it need not be in the view yet
			return fmt.Errorf("makes a circle: %s is above itself", c.Name)
		}
		rec, ok := v.Get(model.KindCheck, at)
		if !ok {
			return nil // the reference itself is checked by the catalog
		}
		if rec.ID == c.ID && c.ID != "" || seen[rec.Name] {
			return fmt.Errorf("makes a circle: %s is above itself", rec.Name)
		}
		seen[rec.Name] = true
		var p struct {
			Parent string `json:"parent"`
		}
		if err := json.Unmarshal(rec.Spec, &p); err != nil {
			return nil
		}
		at = p.Parent
	}
	return nil
}

// routeTree refuses a second root and circles.
func routeTree(r *model.Route, v catalog.View) error {
	old, _ := v.Old()
	if r.Parent == "" {
		for _, rec := range v.List(model.KindRoute) {
			var o model.Route
			if json.Unmarshal(rec.Spec, &o) == nil && o.Parent == "" && o.Name != r.Name && rec.ID != old.ID {
				return fmt.Errorf("must name a route: the root is %q already", o.Name)
			}
		}
		return nil
	}
	seen := []string{r.Name}
	for at := r.Parent; at != ""; {
		if at == r.Name { // it need not be in the view yet
			return fmt.Errorf("makes a circle: %s is above itself", r.Name)
		}
		rec, ok := v.Get(model.KindRoute, at)
		if !ok {
			return nil
		}
		if slices.Contains(seen, rec.Name) || rec.ID == old.ID && old.ID != "" {
			return fmt.Errorf("makes a circle: %s is above itself", rec.Name)
		}
		seen = append(seen, rec.Name)
		var p model.Route
		if err := json.Unmarshal(rec.Spec, &p); err != nil {
			return nil
		}
		at = p.Parent
	}
	return nil
}

func routeReferences(spec json.RawMessage) []catalog.Ref {
	var r model.Route
	if json.Unmarshal(spec, &r) != nil {
		return nil
	}
	var refs []catalog.Ref
	if r.Parent != "" {
		refs = append(refs, catalog.Ref{Kind: model.KindRoute, IDOrName: r.Parent, Field: "parent"})
	}
	if r.Receiver != "" {
		refs = append(refs, catalog.Ref{Kind: model.KindReceiver, IDOrName: r.Receiver, Field: "receiver"})
	}
	for i, n := range r.MuteTimes {
		refs = append(refs, catalog.Ref{Kind: model.KindInterval, IDOrName: n, Field: model.Index("mute_time_intervals", i)})
	}
	for i, n := range r.ActiveTimes {
		refs = append(refs, catalog.Ref{Kind: model.KindInterval, IDOrName: n, Field: model.Index("active_time_intervals", i)})
	}
	return refs
}

// settingRetention overrides storage.retention_time and retention_size of the file.
const settingRetention = "retention"

type retention struct {
	Time model.Duration `json:"time"`
	Size config.Bytes   `json:"size"`
}

func parseRetention(value json.RawMessage) (retention, error) {
	var r retention
	if err := model.DecodeStrict(value, &r); err != nil {
		var inv model.Invalid
		inv.AddErr("value", err)
		return r, inv.Err()
	}
	var inv model.Invalid
	if r.Time.D().Hours() < 2 {
		inv.Add("value.time", "must be at least 2h, for example 30d")
	}
	if r.Size < 0 {
		inv.Add("value.size", "must not be negative; 0 means no limit")
	}
	return r, inv.Err()
}
