package notify

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v2"

	"panoptes/internal/model"
)

var (
	unknownRE = regexp.MustCompile(`^line (\d+): field (\S+) (?:not found in type|already set in type)`)
	typeRE    = regexp.MustCompile("^line (\\d+): cannot unmarshal (?:!!(\\w+)) ?(?:`([^`]*)`)? ?into (\\S+)$")
	wordRE    = regexp.MustCompile(`[A-Za-z0-9_.]+`)
)

// globals maps what Alertmanager says when neither a block nor its global
// section has a value to the field that is missing.
var globals = []struct{ part, field, msg string }{
	{"SMTP smarthost", "smarthost", "must be given, for example smtp.example.com:587"},
	{"SMTP from", "from", "must be given: the sender's address"},
	{"Slack API URL", "api_url", "must be given (or app_token)"},
	{"OpsGenie API Key", "api_key", "must be given"},
	{"Wechat Api Secret", "api_secret", "must be given"},
	{"Wechat CorpID", "corp_id", "must be given"},
	{"VictorOps API Key", "api_key", "must be given"},
	{"Jira Cloud URL", "api_url", "must be given, for example https://example.atlassian.net/rest/api/3"},
	{"Rocketchat TokenID", "token_id", "must be given"},
	{"Rocketchat Token", "token", "must be given"},
	{"missing service or routing key", "routing_key", "must be given"},
	{"missing Routing key", "routing_key", "must be given"},
	{"discord webhook URL", "webhook_url", "must be given"},
	{"http_config.authorization", "http_config.authorization", "must be given: {\"type\":\"Bearer\",\"credentials\":\"…\"}"},
	{"missing to address", "to", "must be given: one or more addresses, with commas between"},
	{"Target ARN, Topic ARN, or Phone", "topic_arn", "exactly one of topic_arn, target_arn and phone_number must be given"},
	{"missing port in address", "smarthost", "must be host:port, for example smtp.example.com:587"},
}

// faults turns an error of Alertmanager's decoder into ones that name fields.
func faults(err error, typ, field, text string, inv *model.Invalid) {
	var te *yaml.TypeError
	msgs := []string{err.Error()}
	if errors.As(err, &te) {
		msgs = te.Errors
	}
	for _, m := range msgs {
		m = strings.TrimPrefix(m, "yaml: ")
		if s := unknownRE.FindStringSubmatch(m); s != nil {
			inv.Add(parent(field, text, s[1])+"."+s[2], "there is no such field")
			continue
		}
		if s := typeRE.FindStringSubmatch(m); s != nil {
			inv.Add(pathAt(field, text, s[1]), "is a %s; it must be a %s", yamlKind(s[2]), goKind(s[4]))
			continue
		}
		inv.Add(field+fieldIn(typ, m), "%s", plain(typ, m))
	}
}

// fieldIn finds which field of a type a message speaks of.
func fieldIn(typ, m string) string {
	for _, g := range globals {
		if strings.Contains(m, g.part) {
			return "." + g.field
		}
	}
	names := fieldNames(configType(typ))
	for _, w := range wordRE.FindAllString(m, -1) {
		if len(w) > 2 && slices.Contains(names, w) {
			return "." + w
		}
	}
	if strings.Contains(strings.ToLower(m), "url") {
		for _, n := range []string{"url", "webhook_url", "api_url"} {
			if slices.Contains(names, n) {
				return "." + n
			}
		}
	}
	return ""
}

func plain(typ, m string) string {
	for _, g := range globals {
		if strings.Contains(m, g.part) {
			return g.msg
		}
	}
	if strings.HasPrefix(m, "one of ") && strings.Contains(m, "_file") {
		return "must be given"
	}
	return m
}

func fieldNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		if inline(f) && f.Type.Kind() == reflect.Struct {
			out = append(out, fieldNames(f.Type)...)
		} else if n := yamlName(f); n != "" {
			out = append(out, n)
		}
	}
	return out
}

// pathAt finds the path of the value on a line of YAML that we wrote ourselves:
// its key and the keys above it that are indented less.
func pathAt(field, text, line string) string {
	n, _ := strconv.Atoi(line)
	lines := strings.Split(text, "\n")
	if n < 1 || n > len(lines) {
		return field
	}
	var parts []string
	indent := 1 << 30
	for i := n - 1; i >= 0; i-- {
		l := lines[i]
		in := len(l) - len(strings.TrimLeft(l, " -"))
		key, _, ok := strings.Cut(strings.TrimLeft(l, " -"), ":")
		if ok && in < indent {
			parts = append([]string{strings.Trim(key, `"'`)}, parts...)
			indent = in
		}
	}
	if len(parts) == 0 {
		return field
	}
	return field + "." + strings.Join(parts, ".")
}

// parent is pathAt without its last part.
func parent(field, text, line string) string {
	p := pathAt(field, text, line)
	if i := strings.LastIndex(p, "."); i >= len(field) {
		return p[:i]
	}
	return field
}

func yamlKind(k string) string {
	switch k {
	case "str":
		return "text"
	case "int", "float":
		return "number"
	case "bool":
		return "true or false"
	case "seq":
		return "list"
	case "map":
		return "object"
	}
	return k
}

func goKind(k string) string {
	switch {
	case strings.HasPrefix(k, "[]"):
		return "list"
	case strings.Contains(k, "int"), strings.Contains(k, "float"):
		return "number"
	case k == "bool":
		return "true or false"
	case k == "time.Duration":
		return "duration such as 10s"
	case k == "string", strings.Contains(k, "plain"), strings.Contains(k, "Secret"):
		return "text or an object as documented"
	case strings.HasPrefix(k, "map"):
		return "object"
	}
	return "object"
}
