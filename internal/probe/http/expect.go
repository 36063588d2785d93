package http

import (
	"encoding/json"
	"fmt"
	"maps"
	nethttp "net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/condition"
)

type statusRange struct{ from, to int }

type headerExpect struct {
	name string
	pat  *probe.Pattern // nil asks for presence
}

type jsonExpect struct {
	JSONExpect
	path string
	want gjson.Result
}

func (p *httpProbe) compileExpect(inv *model.Invalid) {
	for i, s := range p.cfg.ExpectStatus {
		from, to, found := strings.Cut(strings.TrimSpace(s), "-")
		if !found {
			to = from
		}
		a, aerr := strconv.Atoi(from)
		b, berr := strconv.Atoi(to)
		if aerr != nil || berr != nil || a < 100 || b > 999 || a > b {
			inv.Add(model.Index("http.expect_status", i), "must be a status or a range, for example \"404\" or \"200-299\"")
			continue
		}
		p.statuses = append(p.statuses, statusRange{a, b})
	}
	p.conditions = condition.Compile(p.cfg.Conditions, "http.conditions", inv)
	if len(p.cfg.ExpectStatus) == 0 && !condition.Uses(p.conditions, "STATUS") {
		p.statuses = []statusRange{{200, 299}}
	}
	p.expect = probe.CompilePattern(p.cfg.ExpectBody, "http.expect_body", inv)
	p.reject = probe.CompilePattern(p.cfg.RejectBody, "http.reject_body", inv)
	for _, k := range slices.Sorted(maps.Keys(p.cfg.ExpectHeaders)) {
		p.headers = append(p.headers, headerExpect{k, probe.CompilePattern(p.cfg.ExpectHeaders[k], "http.expect_headers."+k, inv)})
	}
	if len(p.cfg.ExpectJSON) > condition.MaxLines {
		inv.Add("http.expect_json", "has more than %d entries", condition.MaxLines)
		return
	}
	for i, e := range p.cfg.ExpectJSON {
		field := model.Index("http.expect_json", i)
		if e.Path == "" || len(e.Path) > 512 {
			inv.Add(field+".path", "must be given, for example data.items[0].id")
		}
		if !slices.Contains([]string{"==", "!=", "<", "<=", ">", ">=", "contains", "exists"}, e.Op) {
			inv.Add(field+".op", "must be one of == != < <= > >= contains exists")
		}
		if len(e.Value) == 0 && e.Op != "exists" {
			inv.Add(field+".value", "must be given")
		}
		p.json = append(p.json, jsonExpect{e, condition.Path(e.Path), gjson.ParseBytes(e.Value)})
	}
}

// judge looks at the last answer and completes out.
func (p *httpProbe) judge(st *state, out *probe.Outcome) {
	resp := st.resp
	out.Success = true
	fail := func(r model.AssertionResult, degraded bool) {
		out.Assertions = append(out.Assertions, r)
		switch {
		case r.Passed:
		case degraded:
			if !out.Degraded && out.Success {
				out.Message = "degraded: " + describe(r)
			}
			out.Degraded = true
		case out.Success:
			out.Success, out.Message = false, describe(r)
		}
	}
	out.Message = statusText(resp) + " in " + probe.Ms(st.total)
	if len(p.statuses) > 0 {
		ok := slices.ContainsFunc(p.statuses, func(s statusRange) bool { return resp.StatusCode >= s.from && resp.StatusCode <= s.to })
		r := model.AssertionResult{Text: p.statusLine(), Found: strconv.Itoa(resp.StatusCode), Passed: ok}
		out.Assertions = append(out.Assertions, r)
		if !ok {
			out.Success, out.Message = false, "status "+statusText(resp)+", wanted "+strings.TrimPrefix(r.Text, "status in ")
		}
	}
	for _, h := range p.headers {
		v := strings.Join(resp.Header.Values(h.name), ", ")
		_, there := resp.Header[nethttp.CanonicalHeaderKey(h.name)]
		r := model.AssertionResult{Text: "header " + h.name + " is present", Found: probe.Line(v), Passed: there}
		if h.pat != nil {
			r.Text, r.Passed = "header "+h.name+" contains "+h.pat.Text, there && h.pat.Match([]byte(v))
		}
		st.regexFailed = st.regexFailed || !r.Passed
		fail(r, false)
	}
	if p.expect != nil {
		r := model.AssertionResult{Text: "body contains " + p.expect.Text, Found: first(st.body), Passed: p.expect.Match(st.body)}
		st.regexFailed = st.regexFailed || !r.Passed
		fail(r, false)
	}
	if p.reject != nil {
		r := model.AssertionResult{Text: "body does not contain " + p.reject.Text, Found: first(st.body), Passed: !p.reject.Match(st.body)}
		st.regexFailed = st.regexFailed || !r.Passed
		fail(r, false)
	}
	if len(p.json) > 0 {
		valid := gjson.ValidBytes(st.body)
		for i := range p.json {
			fail(p.json[i].eval(st.body, valid), false)
		}
	}
	if len(p.conditions) > 0 {
		v := condition.Values{Connected: true, Status: resp.StatusCode, ResponseTime: st.total, Body: st.body, CertExpiry: st.facts.Left(p.now()), Now: p.now()}
		if st.route.Addr.IsValid() {
			v.IP = st.route.Addr.String()
		}
		for _, c := range p.conditions {
			fail(c.Eval(&v), c.Severity == condition.Degraded)
		}
	}
	if r, ok := p.cfg.TLS.Assert(st.facts, p.now()); r.Text != "" {
		fail(r, !ok)
	}
	if d := p.cfg.DegradedAfter.D(); d > 0 {
		fail(model.AssertionResult{Text: "response time <= " + p.cfg.DegradedAfter.String(), Found: probe.Ms(st.total), Passed: st.total <= d}, true)
	}
}

func (p *httpProbe) statusLine() string {
	parts := make([]string, len(p.statuses))
	for i, s := range p.statuses {
		parts[i] = strconv.Itoa(s.from)
		if s.to != s.from {
			parts[i] += "-" + strconv.Itoa(s.to)
		}
	}
	return "status in " + strings.Join(parts, ", ")
}

func (e *jsonExpect) eval(body []byte, valid bool) model.AssertionResult {
	r := model.AssertionResult{Text: strings.TrimSpace("json " + e.Path + " " + e.Op + " " + string(e.Value))}
	if !valid {
		r.Found = "the body is not JSON"
		return r
	}
	got := gjson.GetBytes(body, e.path)
	r.Found = probe.Line(got.String())
	if !got.Exists() {
		r.Found = "(none)"
		want := e.Op == "exists" && e.want.Exists() && !e.want.Bool()
		r.Passed = want || e.Op == "!="
		return r
	}
	switch e.Op {
	case "exists":
		r.Passed = !e.want.Exists() || e.want.Bool()
	case "contains":
		if got.IsArray() {
			r.Passed = slices.ContainsFunc(got.Array(), func(x gjson.Result) bool { return compareJSON(x, e.want, "==") })
		} else {
			r.Passed = strings.Contains(got.String(), e.want.String())
		}
	default:
		r.Passed = compareJSON(got, e.want, e.Op)
	}
	return r
}

func compareJSON(a, b gjson.Result, op string) bool {
	x, aerr := strconv.ParseFloat(a.String(), 64)
	y, berr := strconv.ParseFloat(b.String(), 64)
	if aerr == nil && berr == nil {
		cmp := 0
		if x < y {
			cmp = -1
		} else if x > y {
			cmp = 1
		}
		return condition.Ordered(cmp, op, true)
	}
	if a.IsObject() || a.IsArray() {
		var u, v any
		same := json.Unmarshal([]byte(a.Raw), &u) == nil && json.Unmarshal([]byte(b.Raw), &v) == nil && fmt.Sprint(u) == fmt.Sprint(v)
		return same == (op == "==") && (op == "==" || op == "!=")
	}
	return condition.Ordered(strings.Compare(a.String(), b.String()), op, op == "==" || op == "!=")
}

func describe(r model.AssertionResult) string { return r.Text + ", found " + r.Found }

func first(b []byte) string { return probe.Line(string(b[:min(len(b), 200)])) }

func statusText(r *nethttp.Response) string {
	if t := nethttp.StatusText(r.StatusCode); t != "" {
		return strconv.Itoa(r.StatusCode) + " " + t
	}
	return strconv.Itoa(r.StatusCode)
}
