// Package condition reads and evaluates the short lines of a check's
// "conditions": "[STATUS] == 200", "[BODY].items[0].id != 7",
// "len([BODY].items) > 3", "degraded: [RESPONSE_TIME] < 300".
package condition

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The severities of a condition.
const (
	Down     = "down"     // a miss makes the check fail
	Degraded = "degraded" // a miss makes it degraded
)

// Limits of what people may write.
const (
	MaxLines  = 32
	maxLength = 1024
)

// Line is a condition as it is written: text, optionally with "degraded:" in
// front, or an object {"condition": "…", "severity": "degraded"}.
type Line struct {
	Condition string `json:"condition"`
	Severity  string `json:"severity,omitempty"`
}

// UnmarshalJSON accepts both forms.
func (l *Line) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &l.Condition)
	}
	type plain Line
	return model.DecodeStrict(b, (*plain)(l))
}

// Values is what a run knows. Kinds leave out what they do not have.
type Values struct {
	Connected    bool
	Status       int
	ResponseTime time.Duration
	IP           string
	Body         []byte
	CertExpiry   *time.Duration // nil without a certificate
	DNSRcode     string
	Now          time.Time
}

// Condition is a parsed line.
type Condition struct {
	Text     string // without the severity
	Severity string // Down or Degraded
	left     operand
	op       string
	right    operand
}

// Compile parses the lines of a field; faults are added to inv.
func Compile(lines []Line, field string, inv *model.Invalid) []*Condition {
	if len(lines) > MaxLines {
		inv.Add(field, "has %d conditions; %d are allowed", len(lines), MaxLines)
		return nil
	}
	var out []*Condition
	for i, l := range lines {
		c, err := Parse(l.Condition)
		if err != nil {
			inv.Add(model.Index(field, i), "%s", err)
			continue
		}
		switch l.Severity {
		case "":
		case Down, Degraded:
			c.Severity = l.Severity
		default:
			inv.Add(model.Index(field, i)+".severity", "must be %s or %s", Down, Degraded)
		}
		out = append(out, c)
	}
	return out
}

var operators = []string{"==", "!=", "<=", ">=", "<", ">"}

// Parse reads one line.
func Parse(line string) (*Condition, error) {
	if len(line) > maxLength {
		return nil, fmt.Errorf("is longer than %d bytes", maxLength)
	}
	c := &Condition{Severity: Down, Text: strings.TrimSpace(line)}
	for _, s := range []string{Degraded, Down} {
		if rest, ok := strings.CutPrefix(c.Text, s+":"); ok {
			c.Severity, c.Text = s, strings.TrimSpace(rest)
			break
		}
	}
	at := -1
	for i := 0; i < len(c.Text) && at < 0; i++ {
		for _, op := range operators {
			if strings.HasPrefix(c.Text[i:], op) {
				at, c.op = i, op
				break
			}
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("%q has no operator; write for example [STATUS] == 200 with one of %s", c.Text, strings.Join(operators, " "))
	}
	var err error
	if c.left, err = parseOperand(c.Text[:at]); err != nil {
		return nil, err
	}
	if c.right, err = parseOperand(c.Text[at+len(c.op):]); err != nil {
		return nil, err
	}
	if c.left.kind == opPat || c.left.kind == opAny {
		return nil, fmt.Errorf("pat() and any() stand on the right side: [BODY].name == pat(a*)")
	}
	if (c.right.kind == opPat || c.right.kind == opAny) && c.op != "==" && c.op != "!=" {
		return nil, fmt.Errorf("pat() and any() can be compared with == and != only")
	}
	if c.left.kind == opLiteral && c.right.kind == opLiteral {
		return nil, fmt.Errorf("%q compares two fixed values; use a placeholder such as [STATUS], [RESPONSE_TIME], [BODY].a.b or [CERTIFICATE_EXPIRATION]", c.Text)
	}
	return c, nil
}

// Uses reports whether any condition looks at a placeholder, for example BODY.
func Uses(cs []*Condition, placeholder string) bool {
	for _, c := range cs {
		if c.left.name == placeholder || c.right.name == placeholder {
			return true
		}
	}
	return false
}

// Eval looks at what a run found.
func (c *Condition) Eval(v *Values) model.AssertionResult {
	l := c.left.value(v)
	r := model.AssertionResult{Text: c.Text, Found: l.show()}
	if c.left.kind == opLiteral {
		r.Found = c.right.value(v).show()
	}
	switch c.right.kind {
	case opPat:
		r.Passed = l.ok && glob(c.right.text, l.text) == (c.op == "==")
	case opAny:
		hit := false
		for _, o := range c.right.list {
			if o.kind == opPat {
				hit = hit || glob(o.text, l.text)
			} else {
				hit = hit || compare(l, "==", o.value(v))
			}
		}
		r.Passed = l.ok && hit == (c.op == "==")
	default:
		r.Passed = compare(l, c.op, c.right.value(v))
	}
	return r
}

// compare compares as numbers when both are numbers, else as text. What does
// not exist equals nothing, and differs from everything.
func compare(a value, op string, b value) bool {
	if !a.ok || !b.ok {
		return op == "!="
	}
	x, aerr := strconv.ParseFloat(a.text, 64)
	y, berr := strconv.ParseFloat(b.text, 64)
	if aerr != nil || berr != nil {
		return Ordered(strings.Compare(a.text, b.text), op, op == "==" || op == "!=")
	}
	switch {
	case x < y:
		return Ordered(-1, op, true)
	case x > y:
		return Ordered(1, op, true)
	case x == y:
		return Ordered(0, op, true)
	}
	return op == "!=" // NaN
}

// Ordered turns the outcome of a comparison (-1, 0, 1) into that of an
// operator; what is not comparable answers false.
func Ordered(cmp int, op string, comparable bool) bool {
	if !comparable {
		return false
	}
	switch op {
	case "==":
		return cmp == 0
	case "!=":
		return cmp != 0
	case "<":
		return cmp < 0
	case "<=":
		return cmp <= 0
	case ">":
		return cmp > 0
	case ">=":
		return cmp >= 0
	}
	return false
}
