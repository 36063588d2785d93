package model_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestBound(t *testing.T) {
	f := func(want string, matchers ...string) {
		t.Helper()
		ls, err := model.Bound(matchers)
		if want == "" {
			require.Error(t, err)
			require.True(t, ls.IsEmpty())
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, ls.String())
	}
	f("{}")
	f(`{env="prod", tenant="a b"}`, `tenant = "a b"`, `env=prod`)
	f(`{x="a=b"}`, `x=a=b`)
	f("", `tenant=~"a.*"`)
	f("", `tenant!="a"`)
	f("", `tenant`)
	f("", `tenant=`)
	f("", `tenant="a`)
	f("", `__name__=up`)
	f("", `a=1`, `a=2`)
	f("", `ok=1`, `=2`)
}
