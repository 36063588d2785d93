package notify

import (
	"reflect"
	"slices"

	"github.com/prometheus/alertmanager/config"
)

// Types lists the receiver types in the order in which they are offered. Each is
// the name of its block; Alertmanager's name is the type with "_configs".
var Types = []string{
	"webhook", "email", "slack", "telegram", "wechat", "discord", "msteamsv2", "msteams", "pagerduty", "opsgenie", "pushover",
	"victorops", "sns", "webex", "jira", "incidentio", "rocketchat", "mattermost",
}

// known reports whether t is a receiver type.
func known(t string) bool { return slices.Contains(Types, t) }

// configField finds the field of config.Receiver that holds the configurations
// of a type, by its name in YAML.
func configField(t string) (reflect.StructField, bool) {
	rt := reflect.TypeFor[config.Receiver]()
	for i := range rt.NumField() {
		f := rt.Field(i)
		if yamlName(f) == t+"_configs" {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// configType is the struct type of one configuration of a receiver type.
func configType(t string) reflect.Type {
	f, ok := configField(t)
	if !ok {
		return nil
	}
	return f.Type.Elem().Elem()
}

// yamlName is the name of a field in YAML, "" for one that is not read.
func yamlName(f reflect.StructField) string {
	tag := f.Tag.Get("yaml")
	for i := range len(tag) {
		if tag[i] == ',' {
			tag = tag[:i]
			break
		}
	}
	if tag == "-" {
		return ""
	}
	return tag
}

// inline reports whether the fields of f stand in its parent.
func inline(f reflect.StructField) bool {
	tag := f.Tag.Get("yaml")
	return len(tag) >= 7 && tag[len(tag)-7:] == ",inline"
}

// only returns conf with the configurations of one type.
func only(conf config.Receiver, typ string) config.Receiver {
	out := config.Receiver{Name: conf.Name, Labels: conf.Labels}
	if f, ok := configField(typ); ok {
		reflect.ValueOf(&out).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(conf).FieldByIndex(f.Index))
	}
	return out
}
