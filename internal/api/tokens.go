package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The bounds of tokens.
const (
	tokenTTL       = time.Hour
	minTokenTTL    = time.Minute
	maxTokenTTL    = 30 * 24 * time.Hour
	agentUses      = 100
	maxAgentUses   = 10_000
	maxServerUses  = 10
	maxTokensAlive = 1000
)

// tokenInfo is what people see of a token.
type tokenInfo struct {
	ID      string         `json:"id"`
	Role    model.NodeRole `json:"role"`
	Region  string         `json:"region"`
	Checks  bool           `json:"checks,omitempty"` // the agents that join with it may be given checks, and vote for the region
	Expires time.Time      `json:"expires"`
	Uses    int            `json:"uses"` // how often it may still be used
	Used    []string       `json:"used"` // ids of the nodes that joined with it
	Created time.Time      `json:"created_at"`
	Expired bool           `json:"expired"`
	Token   string         `json:"token,omitempty"` // shown once, by POST
}

type tokensAnswer struct {
	Items []tokenInfo `json:"items"`
}

type tokenBody struct {
	Role   model.NodeRole `json:"role,omitempty"`
	Region string         `json:"region,omitempty"`
	Checks bool           `json:"checks,omitempty"` // the agents that join with it may be given checks, with their secrets, and vote for the region
	TTL    model.Duration `json:"ttl,omitempty"`
	Uses   *int           `json:"uses,omitempty"`
}

func infoOfToken(t model.Token, created time.Time) tokenInfo {
	used := t.Used
	if used == nil {
		used = []string{}
	}
	return tokenInfo{ID: t.Name, Role: t.Role, Region: t.Region, Checks: t.Checks, Expires: t.Expires.UTC(), Uses: t.Uses, Used: used, Created: created.UTC(), Expired: !time.Now().Before(t.Expires)}
}

func (a *API) tokens(*http.Request) (any, error) {
	if _, err := a.clustered(); err != nil {
		return nil, err
	}
	joined := map[string][]string{} // ids of nodes by token
	for _, rec := range a.deps.Catalog.List(model.KindNode) {
		var n model.Node
		if err := json.Unmarshal(rec.Spec, &n); err != nil {
			return nil, fmt.Errorf("decode node %s: %w", rec.Name, err)
		}
		for _, token := range append(slices.Clone(n.Earlier), n.TokenID) {
			joined[token] = append(joined[token], n.ID)
		}
	}
	out := tokensAnswer{Items: []tokenInfo{}}
	for _, rec := range a.deps.Catalog.List(model.KindToken) {
		var t model.Token
		if err := json.Unmarshal(rec.Spec, &t); err != nil {
			return nil, fmt.Errorf("decode token %s: %w", rec.Name, err)
		}
		t.Name = rec.Name
		t.Used = append(joined[t.Name], t.Used...)
		slices.Sort(t.Used)
		t.Used = slices.Compact(t.Used)
		out.Items = append(out.Items, infoOfToken(t, rec.Created))
	}
	return out, nil
}

// createToken makes a token and shows it this once.
func (a *API) createToken(r *http.Request) (any, error) {
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	var b tokenBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	if b.Role == "" {
		b.Role = model.RoleServer
	}
	most := maxServerUses
	var inv model.Invalid
	switch b.Role {
	case model.RoleServer, model.RoleWitness:
	case model.RoleAgent:
		most = maxAgentUses
	default:
		inv.Add("role", "must be server, witness or agent")
	}
	if b.Region != "" {
		if model.CheckName(b.Region) != nil || strings.ContainsAny(b.Region, ",=%") {
			inv.Add("region", "must be the name of a region, or empty for the one that the node names itself")
		}
	}
	want := model.Token{Role: b.Role, Region: b.Region, Checks: b.Checks}
	inv.AddErr("", want.ValidateChecks())
	ttl := b.TTL.D()
	if ttl == 0 {
		ttl = tokenTTL
	}
	if ttl < minTokenTTL || ttl > maxTokenTTL {
		inv.Add("ttl", "must lie between 1m and 30d")
	}
	want.Uses = 1
	if b.Role == model.RoleAgent {
		want.Uses = agentUses
	}
	if b.Uses != nil {
		want.Uses = *b.Uses
	}
	if want.Uses < 1 || want.Uses > most {
		inv.Add("uses", "must lie between 1 and %d", most)
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	if n := len(a.deps.Catalog.List(model.KindToken)); n >= maxTokensAlive {
		return nil, fmt.Errorf("%w: there are %d tokens; revoke those that are not needed", model.ErrLimit, n)
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWait)
	defer cancel()
	want.Expires = time.Now().Add(ttl)
	t, plain, err := c.NewToken(ctx, who(r).Actor(), want)
	if err != nil {
		return nil, err
	}
	info := infoOfToken(t, time.Now())
	info.Token = plain
	return info, nil
}

func (a *API) revokeToken(r *http.Request) (any, error) {
	if _, err := a.clustered(); err != nil {
		return nil, err
	}
	return nil, a.deps.Catalog.Delete(r.Context(), who(r).Actor(), model.KindToken, r.PathValue("id"), 0)
}
