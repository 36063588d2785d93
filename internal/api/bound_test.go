package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// boundAuth knows one more: the token "bound" is an editor's who is bound to a team.
type boundAuth struct{ *tokenAuth }

func (a boundAuth) Authenticate(r *http.Request, address string) (*model.Identity, error) {
	if r.Header.Get("Authorization") == "Bearer bound" {
		return &model.Identity{KeyID: "K", Name: "bound", Role: model.RoleEditor, Bound: labels.FromStrings("team", "a")}, nil
	}
	return a.tokenAuth.Authenticate(r, address)
}

func asBound(_ *api.Config, d *api.Deps) { d.Auth = boundAuth{d.Auth.(*tokenAuth)} }

func TestTheStreamShowsBoundOnesNoHosts(t *testing.T) {
	l := goLive(t, asBound)
	c := l.open("bound", "")
	c.want("hello")
	l.api.PublishHost(model.Host{ID: "H1", Name: "db-1"})
	l.api.PublishNodes()
	rec, err := l.cat.Create(t.Context(), "", model.KindCheck, []byte(`{"name":"ours","type":"http","target":"http://x/","labels":{"team":"a"}}`))
	require.NoError(t, err)
	l.api.PublishRecord(model.KindCheck, rec.ID, "created")
	require.Contains(t, c.want("record").data, rec.ID, "the first thing that it hears")
}

func TestBoundOnesHearNothingOfTheServerItself(t *testing.T) {
	b := setUp(t, asBound)
	require.Equal(t, 200, b.call("viewer", "GET", "/metrics", nil).Code)
	require.Equal(t, 403, b.call("bound", "GET", "/metrics", nil).Code)
	require.Contains(t, b.call("viewer", "GET", "/api/health", nil).Body.String(), "85 % full")
	require.NotContains(t, b.call("bound", "GET", "/api/health", nil).Body.String(), "85 % full")
}

// A decoder takes a field in any case, and some letters for others: none of
// them leads around the labels.
func TestLabelsCannotBeWrittenOtherwise(t *testing.T) {
	b := setUp(t, asBound)
	rec, err := b.cat.Create(t.Context(), "", model.KindRules, []byte(`{"name":"ours","matchers":["team=\"a\""]}`))
	require.NoError(t, err)
	for _, body := range []string{
		`{"name":"x","type":"http","target":"http://x/","labelſ":{"team":"b"}}`,
		`{"name":"x","type":"http","target":"http://x/","labels":{},"Labels":{"team":"b"}}`,
	} {
		require.Equal(t, 400, b.call("bound", "POST", "/v1/checks", body).Code, body)
	}
	for _, body := range []string{`{"name":"x","groups":[],"matcherſ":["team=\"b\""]}`, `{"name":"x","groups":[],"MATCHERS":[]}`} {
		require.Equal(t, 400, b.call("bound", "POST", "/v1/rules", body).Code, body)
		require.Equal(t, 400, b.call("bound", "PUT", "/v1/rules/"+rec.ID, body).Code, body)
		require.Equal(t, 400, b.call("bound", "PATCH", "/v1/rules/"+rec.ID, body).Code, body)
	}
}

// Who is bound has a share of the groups of rules, and nobody else's.
func TestShareOfRules(t *testing.T) {
	b := setUp(t, asBound)
	groups := func(n int) string {
		return `"groups":[` + strings.TrimSuffix(strings.Repeat(`{"name":"g"},`, n), ",") + "]"
	}
	require.Equal(t, 201, b.call("editor", "POST", "/v1/rules", `{"name":"theirs",`+groups(800)+`}`).Code)
	require.Equal(t, 201, b.call("bound", "POST", "/v1/rules", `{"name":"one",`+groups(200)+`}`).Code)
	require.Equal(t, 201, b.call("bound", "POST", "/v1/rules", `{"name":"two","matchers":["x=\"y\""],`+groups(50)+`}`).Code)
	for method, c := range map[string][2]string{
		"POST":  {"/v1/rules", `{"name":"three","matchers":["x=\"z\""],` + groups(1) + `}`},
		"PUT":   {"/v1/rules/two", `{"name":"two",` + groups(51) + `}`},
		"PATCH": {"/v1/rules/two", `{` + groups(51) + `}`},
	} {
		w := b.call("bound", method, c[0], c[1])
		require.Equal(t, 400, w.Code, method)
		require.Contains(t, w.Body.String(), "there would be 251 groups of rules", method)
	}
	require.Equal(t, 200, b.call("bound", "PUT", "/v1/rules/two", `{"name":"two",`+groups(50)+`}`).Code)
	require.Equal(t, 201, b.call("editor", "POST", "/v1/rules", `{"name":"more",`+groups(1)+`}`).Code)
}

func TestACheckHangsOnNoneOfOthers(t *testing.T) {
	b := setUp(t, asBound)
	require.Equal(t, 201, b.call("editor", "POST", "/v1/checks", `{"name":"theirs","type":"http","target":"http://x/","labels":{"team":"b"}}`).Code)
	require.Equal(t, 201, b.call("bound", "POST", "/v1/checks", `{"name":"ours","type":"http","target":"http://x/"}`).Code)
	require.Equal(t, 201, b.call("bound", "POST", "/v1/checks", `{"name":"child","type":"http","target":"http://x/","parent":"ours"}`).Code)
	var said []string
	for _, parent := range []string{"theirs", "nobody"} {
		for _, c := range []struct{ method, path, body string }{
			{"POST", "/v1/checks", `{"name":"x","type":"http","target":"http://x/","parent":"` + parent + `"}`},
			{"PUT", "/v1/checks/ours", `{"name":"ours","type":"http","target":"http://x/","parent":"` + parent + `"}`},
			{"PATCH", "/v1/checks/ours", `{"parent":"` + parent + `"}`},
		} {
			w := b.call("bound", c.method, c.path, c.body)
			require.Equal(t, 400, w.Code, c.body)
			said = append(said, strings.ReplaceAll(w.Body.String(), parent, "it"))
		}
	}
	for _, s := range said {
		require.Equal(t, said[0], s, "one that is not seen is one that is not there")
	}
}
