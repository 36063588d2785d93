package notify

import (
	"embed"
	"fmt"
	"strings"

	"github.com/prometheus/alertmanager/template"
)

//go:embed messages.tmpl
var messages embed.FS

// newTemplate reads Alertmanager's templates and ours on top of them. Ours are
// "panoptes.title.en", "panoptes.text.en", "panoptes.html.en" and the same for
// "zh-CN"; the defaults of all receivers point to those of language.
func newTemplate(language string) (*template.Template, error) {
	if language == "" {
		language = "en"
	}
	if language != "en" && language != "zh-CN" {
		return nil, fmt.Errorf("language %q: there are messages in en and zh-CN", language)
	}
	t, err := template.FromGlobs(nil)
	if err != nil {
		return nil, fmt.Errorf("read Alertmanager's templates: %w", err)
	}
	own, err := messages.ReadFile("messages.tmpl")
	if err != nil {
		return nil, fmt.Errorf("read message templates: %w", err)
	}
	if err := t.Parse(strings.NewReader(strings.ReplaceAll(string(own), "LANG", language))); err != nil {
		return nil, fmt.Errorf("parse message templates: %w", err)
	}
	return t, nil
}
