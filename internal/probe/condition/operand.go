package condition

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"panoptes/internal/model"
)

type operandKind int

const (
	opLiteral operandKind = iota
	opPlaceholder
	opLen
	opHas
	opPat
	opAny
)

type operand struct {
	kind operandKind
	text string    // literal, or pattern
	name string    // placeholder, without brackets
	path string    // gjson path below [BODY]
	list []operand // of any()
}

var placeholders = []string{"STATUS", "RESPONSE_TIME", "IP", "BODY", "CONNECTED", "CERTIFICATE_EXPIRATION", "DNS_RCODE"}

func parseOperand(s string) (operand, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return operand{}, fmt.Errorf("a side of the comparison is missing")
	}
	for name, kind := range map[string]operandKind{"len": opLen, "has": opHas, "pat": opPat, "any": opAny} {
		inner, ok := strings.CutPrefix(s, name+"(")
		if !ok {
			continue
		}
		if inner, ok = strings.CutSuffix(inner, ")"); !ok {
			return operand{}, fmt.Errorf("%q has no closing parenthesis", s)
		}
		return parseFunc(name, kind, inner)
	}
	if s[0] == '[' {
		return parsePlaceholder(s)
	}
	if q, ok := unquote(s); ok {
		return operand{text: q}, nil
	}
	// A duration is compared in milliseconds, as [RESPONSE_TIME] is.
	if last := s[len(s)-1]; last < '0' || last > '9' {
		if d, err := model.ParseDuration(s); err == nil {
			return operand{text: strconv.FormatInt(d.D().Milliseconds(), 10)}, nil
		}
	}
	return operand{text: s}, nil
}

func unquote(s string) (string, bool) {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1], true
	}
	return s, false
}

func parseFunc(name string, kind operandKind, inner string) (operand, error) {
	switch kind {
	case opPat:
		p, _ := unquote(strings.TrimSpace(inner))
		return operand{kind: opPat, text: p}, nil
	case opAny:
		o := operand{kind: opAny}
		for _, part := range strings.Split(inner, ",") {
			p, err := parseOperand(part)
			if err != nil {
				return operand{}, err
			}
			if p.kind == opAny {
				return operand{}, fmt.Errorf("any() must not stand in any()")
			}
			o.list = append(o.list, p)
		}
		return o, nil
	}
	o, err := parsePlaceholder(strings.TrimSpace(inner))
	if err != nil {
		return operand{}, err
	}
	if o.name != "BODY" {
		return operand{}, fmt.Errorf("%s() works on [BODY] only", name)
	}
	o.kind = kind
	return o, nil
}

func parsePlaceholder(s string) (operand, error) {
	end := strings.IndexByte(s, ']')
	if !strings.HasPrefix(s, "[") || end < 0 {
		return operand{}, fmt.Errorf("%q is no placeholder; write [%s]", s, strings.Join(placeholders, "], ["))
	}
	o := operand{kind: opPlaceholder, name: s[1:end]}
	if !slices.Contains(placeholders, o.name) {
		return operand{}, fmt.Errorf("there is no placeholder [%s]; use one of [%s]", o.name, strings.Join(placeholders, "], ["))
	}
	rest := s[end+1:]
	if rest == "" {
		return o, nil
	}
	if o.name != "BODY" || rest[0] != '.' && rest[0] != '[' {
		return operand{}, fmt.Errorf("%q: only [BODY] can be followed by a path, as in [BODY].items[0].id", s)
	}
	o.path = Path(rest)
	if o.path == "" {
		return operand{}, fmt.Errorf("%q ends before the path", s)
	}
	return o, nil
}

// Path turns "a.b[0].c", "$.a.b" or ".a" into the path that gjson reads.
func Path(p string) string {
	p = strings.TrimPrefix(p, "$")
	p = strings.NewReplacer("[", ".", "]", "").Replace(p)
	return strings.Trim(p, ".")
}

// value is what an operand stands for in one run.
type value struct {
	text string
	ok   bool // it exists
}

func (v value) show() string {
	if !v.ok {
		return "(none)"
	}
	const most = 200
	if len(v.text) > most {
		return strings.ToValidUTF8(v.text[:most], "") + "…"
	}
	return strings.ToValidUTF8(v.text, "�")
}

func (o *operand) value(v *Values) value {
	switch o.kind {
	case opLiteral:
		return value{o.text, true}
	case opLen:
		return bodyLen(o.path, v.Body)
	case opHas:
		return value{strconv.FormatBool(v.lookup(o.path).Exists()), true}
	}
	switch o.name {
	case "STATUS":
		return value{strconv.Itoa(v.Status), v.Status != 0}
	case "RESPONSE_TIME":
		return value{strconv.FormatInt(v.ResponseTime.Milliseconds(), 10), true}
	case "IP":
		return value{v.IP, v.IP != ""}
	case "CONNECTED":
		return value{strconv.FormatBool(v.Connected), true}
	case "DNS_RCODE":
		return value{v.DNSRcode, v.DNSRcode != ""}
	case "CERTIFICATE_EXPIRATION":
		if v.CertExpiry == nil {
			return value{}
		}
		return value{strconv.FormatInt(v.CertExpiry.Round(time.Second).Milliseconds(), 10), true}
	}
	if o.path == "" {
		return value{string(v.Body), true}
	}
	r := v.lookup(o.path)
	return value{r.String(), r.Exists()}
}

func (v *Values) lookup(path string) gjson.Result {
	if path == "" {
		return gjson.ParseBytes(v.Body)
	}
	if !gjson.ValidBytes(v.Body) {
		return gjson.Result{}
	}
	return gjson.GetBytes(v.Body, path)
}

func bodyLen(path string, body []byte) value {
	if path == "" && !gjson.ValidBytes(body) {
		return value{strconv.Itoa(len(body)), true}
	}
	r := (&Values{Body: body}).lookup(path)
	n := utf8.RuneCountInString(r.String())
	switch {
	case !r.Exists():
		return value{}
	case r.IsArray():
		n = len(r.Array())
	case r.IsObject():
		n = len(r.Map())
	}
	return value{strconv.Itoa(n), true}
}

// glob matches text against a pattern in which * stands for any text and ?
// for one character.
func glob(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			_, n := utf8.DecodeRuneInString(text[t:])
			if pattern[p] != '?' {
				n = 1
			}
			p++
			t += n
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
