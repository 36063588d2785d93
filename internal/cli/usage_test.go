package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/cli"
)

// Wrong usage ends with 2 and says where the help is; scripts rely on it.
func TestWrongUsage(t *testing.T) {
	for line, want := range map[string]string{
		"nope":                       `"panoptes" has no command "nope"`,
		"statsu":                     `did you mean "status"?`,
		"node show":                  `See "panoptes node show --help"`,
		"node evict n1":              `"panoptes node" has no command "evict"`,
		"token create --uses many":   `See "panoptes token create --help"`,
		"check evil":                 `"panoptes check" has no command "evil"`,
		"import zabbix":              `"panoptes import" has no command "zabbix"`,
		"check add":                  `See "panoptes check add --help"`,
		"query":                      `See "panoptes query --help"`,
		"version --evil":             `See "panoptes version --help"`,
		`silence add a="b"`:          `--comment: say why`,
		"apply":                      `give files with -f`,
		"check list --output banana": `write table or json`,
	} {
		var out, errs bytes.Buffer
		code := cli.Main(t.Context(), strings.Fields(line), cli.IO{In: strings.NewReader(""), Out: &out, Err: &errs, Env: []string{"PANOPTES_SERVER=http://127.0.0.1:1"}})
		require.Equal(t, 2, code, "%s\n%s%s", line, out.String(), errs.String())
		require.Contains(t, errs.String(), want, line)
		require.Empty(t, out.String(), line)
	}
	for _, line := range []string{"", "check", "help", "check --help", "version"} {
		var out, errs bytes.Buffer
		require.Zero(t, cli.Main(t.Context(), strings.Fields(line), cli.IO{In: strings.NewReader(""), Out: &out, Err: &errs}), line)
		require.NotEmpty(t, out.String(), line)
		require.Empty(t, errs.String(), line)
	}
}
