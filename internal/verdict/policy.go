package verdict

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"panoptes/internal/model"
)

// Policy says how many regions must fail before a check is down. Its zero value
// is the majority.
type Policy struct {
	kind    policyKind
	value   float64            // count, share in percent, or threshold of weights; 0 for weights means more than half
	weights map[string]float64 // regions that are not named weigh 1
	text    string
}

type policyKind int

const (
	byMajority policyKind = iota
	byAny
	byAll
	byCount
	byShare
	byWeights
)

const maxPolicyBytes = 1024

// ParsePolicy reads "majority", "any", "all", a count "2", a share "60%", or
// weights "eu=2,us=1>=2"; regions that are not named weigh 1, and without ">="
// more than half of all weight must fail. Empty means majority.
func ParsePolicy(s string) (Policy, error) {
	text := strings.TrimSpace(s)
	p := Policy{text: text}
	switch text {
	case "", "majority":
		p.text = "majority"
		return p, nil
	case "any":
		p.kind = byAny
		return p, nil
	case "all":
		p.kind = byAll
		return p, nil
	}
	if len(text) > maxPolicyBytes {
		return Policy{}, fault("is longer than %d bytes", maxPolicyBytes)
	}
	if strings.Contains(text, "=") {
		return parseWeights(p, text)
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(share), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return Policy{}, fault("%q is no share; write for example 60%%, above 0%% and up to 100%%", text)
		}
		p.kind, p.value = byShare, v
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return Policy{}, fault("%q is not known; write majority, any, all, a count such as 2, a share such as 60%%, or weights such as eu=2,us=1>=2", text)
	}
	if n < 1 || n > 1000 {
		return Policy{}, fault("a count must lie between 1 and 1000")
	}
	p.kind, p.value = byCount, float64(n)
	return p, nil
}

func parseWeights(p Policy, text string) (Policy, error) {
	p.kind, p.weights = byWeights, map[string]float64{}
	list := text
	if before, after, ok := strings.Cut(text, ">="); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(after), 64)
		if err != nil || !(v > 0 && v <= 1e9) {
			return Policy{}, fault("%q after >= is no weight; write a number above 0", strings.TrimSpace(after))
		}
		list, p.value = before, v
	}
	for item := range strings.SplitSeq(list, ",") {
		name, weight, ok := strings.Cut(item, "=")
		name = strings.TrimSpace(name)
		v, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
		if !ok || name == "" || err != nil || !(v >= 0 && v <= 1e6) {
			return Policy{}, fault("%q is no weight of a region; write for example eu=2", strings.TrimSpace(item))
		}
		if _, twice := p.weights[name]; twice {
			return Policy{}, fault("region %q has two weights", name)
		}
		p.weights[name] = v
	}
	if slices.Max(slices.Collect(maps.Values(p.weights))) == 0 {
		return Policy{}, fault("at least one region must weigh more than 0")
	}
	return p, nil
}

func fault(format string, args ...any) error {
	return &model.FieldError{Field: "policy", Msg: fmt.Sprintf(format, args...)}
}

// String returns the policy as it was written.
func (p Policy) String() string {
	if p.text == "" {
		return "majority"
	}
	return p.text
}

// Weight returns what the vote of a region weighs.
func (p Policy) Weight(region string) float64 {
	if w, ok := p.weights[region]; ok {
		return w
	}
	return 1
}

// Tally counts the votes of the configured regions, each by its weight.
type Tally struct {
	Total   float64 // all configured regions, whether they answer or not
	Failing float64
	Missing float64
	// Impaired is the weight of regions that cannot tell and say so. It stays
	// part of Total, so that the others do not gain weight; but that they do not
	// vote makes no check unknown.
	Impaired float64
	Soft     bool // a region that does not fail reports a degraded result
}

// voters is the weight of the regions that vote.
func (t Tally) voters() float64 {
	if v := t.Total - t.Missing - t.Impaired; v > 1e-9 {
		return v
	}
	return 0
}

// reached reports whether that much failing weight makes the check down. What
// is asked for never exceeds what there is: "3" with two regions means both.
func (p Policy) reached(failing, total float64) bool {
	need := 0.0
	switch p.kind {
	case byMajority:
		return failing*2 > total
	case byAny:
		return failing > 0
	case byAll:
		need = total
	case byCount:
		need = p.value
	case byShare:
		need = total * p.value / 100
	case byWeights:
		if p.value == 0 {
			return failing*2 > total
		}
		need = p.value
	}
	// Sums of weights such as 0.1 are not exact.
	return failing > 0 && failing >= math.Min(need, total)-1e-9
}

// Decide returns down when enough regions fail; up, or degraded when a region
// fails all the same or reports a soft fault, when the missing votes could not
// change that; else unknown.
func (p Policy) Decide(t Tally) model.Status {
	switch {
	case t.Total <= 0:
		return model.StatusUnknown
	case p.reached(t.Failing, t.Total):
		return model.StatusDown
	case t.Missing > 0 && (p.reached(t.Failing+t.Missing, t.Total) || t.voters() == 0):
		return model.StatusUnknown
	case t.Failing > 0 || t.Soft:
		return model.StatusDegraded
	}
	return model.StatusUp
}
