package rules_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"panoptes/internal/rules"
	"panoptes/internal/rules/packs"
)

// Every alert of a pack says what to do, in both languages, has one of the
// severities that routes know, and a unit test.
func TestPacks(t *testing.T) {
	require.Equal(t, []string{"agents", "checks", "hosts", "kubernetes", "panoptes"}, packs.Names())
	chinese := func(s string) bool {
		return strings.IndexFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) }) >= 0
	}
	long, err := os.ReadFile(filepath.Join("packs", "tests", "long.yml"))
	require.NoError(t, err)
	names := map[rules.Text]string{}
	for _, pack := range packs.Names() {
		data, err := packs.Read(pack)
		require.NoError(t, err)
		require.NotEmpty(t, packs.About(pack))
		groups, err := rules.ParseFile(data)
		require.NoError(t, err, pack)
		tests, err := os.ReadFile(filepath.Join("packs", "tests", pack+".yml"))
		require.NoError(t, err)
		tests = append(tests, long...)
		for _, g := range groups {
			for _, r := range g.Rules {
				if r.Alert == "" {
					continue
				}
				require.Empty(t, names[r.Alert], "%s is in two packs", r.Alert)
				names[r.Alert] = pack
				require.Contains(t, []rules.Text{"critical", "warning", "info"}, r.Labels["severity"], r.Alert)
				for _, name := range []string{"summary", "description", "runbook"} {
					require.NotEmpty(t, r.Annotations[name], "%s: %s", r.Alert, name)
					require.False(t, chinese(string(r.Annotations[name])), "%s: %s", r.Alert, name)
					require.True(t, chinese(string(r.Annotations[name+"_zh"])), "%s: %s_zh", r.Alert, name)
				}
				require.Contains(t, string(tests), "name: "+string(r.Alert)+"\n", "no unit test")
			}
		}
	}
	require.Greater(t, len(names), 80)
}

func TestUnitTestsOfPacks(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("packs", "tests", "*.yml"))
	require.NoError(t, err)
	require.Len(t, paths, len(packs.Names())+1)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			results, err := rules.TestFile(context.Background(), path)
			require.NoError(t, err)
			require.NotEmpty(t, results)
			for _, r := range results {
				for _, f := range r.Faults {
					t.Errorf("%s: %s", r.Name, f)
				}
			}
		})
	}
}
