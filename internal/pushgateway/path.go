package pushgateway

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

const (
	pathPrefix = "/metrics/job"
	base64Mark = "@base64"
	labelJob   = "job"
)

var labelNameRE = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func badPath(format string, args ...any) error {
	var inv model.Invalid
	inv.Add("path", format, args...)
	return inv.Err()
}

// parsePath reads a grouping key: /metrics/job/NAME and then any number of
// /LABEL/VALUE. A label that ends in @base64 has its value in base64 with the
// alphabet for URLs, padded or not. path is as it was sent, %-escaped: that way a
// value may contain a slash in the other form, too.
func (p *Pushgateway) parsePath(path string) (labels.Labels, error) {
	none := labels.EmptyLabels()
	rest, ok := strings.CutPrefix(path, pathPrefix)
	if !ok {
		return none, badPath("must be /metrics/job/NAME, and pairs of /LABEL/VALUE behind it")
	}
	parts := strings.Split(labelJob+rest, "/")
	if len(parts)%2 != 0 {
		return none, badPath("has a label without a value at its end; a value that is empty or has a slash is given as /LABEL@base64/VALUE, where = stands for empty")
	}
	if len(parts)/2+1 > p.cfg.MaxLabels {
		return none, badPath("has more than %d labels", p.cfg.MaxLabels-1)
	}
	byName := make(map[string]string, len(parts)/2)
	for i := 0; i < len(parts); i += 2 {
		name, err := url.PathUnescape(parts[i])
		if err != nil {
			return none, badPath("is not escaped as it should be: %s", err)
		}
		value, err := url.PathUnescape(parts[i+1])
		if err != nil {
			return none, badPath("is not escaped as it should be: %s", err)
		}
		name, coded := strings.CutSuffix(name, base64Mark)
		if coded {
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return none, badPath("the value of label %.100q is not base64 in the alphabet for URLs: %s", name, err)
			}
			value = string(b)
		}
		switch _, twice := byName[name]; {
		case !labelNameRE.MatchString(name) || strings.HasPrefix(name, "__"):
			return none, badPath("%.100q cannot be the name of a label: letters, digits and _ can, without __ or a digit in front", name)
		case len(name) > p.cfg.MaxLabelName:
			return none, badPath("label name %.100q… has %d bytes, %d are allowed", name, len(name), p.cfg.MaxLabelName)
		case twice && i > 0 && name != labelJob:
			return none, badPath("has the label %s twice", name)
		case twice: // the original lets the job in front win
			continue
		case len(value) > p.cfg.MaxLabelValue:
			return none, badPath("the value of label %s has %d bytes, %d are allowed", name, len(value), p.cfg.MaxLabelValue)
		case !utf8.ValidString(value):
			return none, badPath("the value of label %s is not UTF-8", name)
		case name == labelJob && value == "":
			return none, badPath("the job's name is missing: /metrics/job/NAME")
		}
		byName[name] = value
	}
	return labels.FromMap(byName), nil
}

// groupPath is the path of a group, the job in front.
func groupPath(ls labels.Labels) string {
	var b strings.Builder
	part := func(name, value string) {
		if value == "" || strings.Contains(value, "/") {
			name += base64Mark
			if value = base64.RawURLEncoding.EncodeToString([]byte(value)); value == "" {
				value = "="
			}
		}
		b.WriteString("/" + name + "/" + url.PathEscape(value))
	}
	b.WriteString(strings.TrimSuffix(pathPrefix, "/"+labelJob))
	part(labelJob, ls.Get(labelJob))
	ls.Range(func(l labels.Label) {
		if l.Name != labelJob {
			part(l.Name, l.Value)
		}
	})
	return b.String()
}
