package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
)

func zipped(s string) []byte {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	_, _ = zw.Write([]byte(s))
	_ = zw.Close()
	return buf.Bytes()
}

// form posts the login form.
func (b *bench) form(path string, values url.Values, header ...string) *httptest.ResponseRecorder {
	return b.call("", "POST", path, values.Encode(), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
}

func TestPage(t *testing.T) {
	b := setUp(t)
	w := b.call("", "GET", "/checks?q=a", nil)
	b.want(303, nil, w)
	require.Equal(t, "/login?next=%2Fchecks%3Fq%3Da", w.Header().Get("Location"))

	w = b.call("viewer", "GET", "/checks/new", nil, "Accept-Language", "fr, zh-TW;q=0.9, en;q=0.8")
	b.want(200, nil, w)
	page := w.Body.String()
	require.Contains(t, page, `<html lang="zh-CN"`)
	require.Contains(t, page, `<base href="/">`)
	boot := regexp.MustCompile(`<script type="application/json" id="boot" nonce="([^"]+)">(.*)</script>`).FindStringSubmatch(page)
	require.NotNil(t, boot, page)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "'nonce-"+boot[1]+"'")
	require.NotContains(t, w.Header().Get("Content-Security-Policy"), "script-src 'self' 'unsafe")
	var data struct {
		User     struct{ Name, Role string }
		Language string
		Writable bool
	}
	require.NoError(t, json.Unmarshal([]byte(boot[2]), &data))
	require.Equal(t, "viewer", data.User.Name)
	require.Equal(t, "zh-CN", data.Language)

	b = setUp(t, func(_ *api.Config, d *api.Deps) { d.UI = fstest.MapFS{".gitkeep": {}} })
	w = b.call("viewer", "GET", "/", nil)
	b.want(503, nil, w)
	require.Contains(t, w.Body.String(), "make ui")
}

func TestAssets(t *testing.T) {
	b := setUp(t)
	w := b.call("", "GET", "/assets/app-1234.js", nil)
	b.want(200, nil, w)
	require.Contains(t, w.Header().Get("Cache-Control"), "immutable")
	require.Contains(t, w.Header().Get("Content-Type"), "javascript")
	tag := w.Header().Get("ETag")
	b.want(304, nil, b.call("", "GET", "/assets/app-1234.js", nil, "If-None-Match", tag))

	w = b.call("", "GET", "/assets/zip-1.css", nil, "Accept-Encoding", "br, gzip")
	require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
	w = b.call("", "GET", "/assets/zip-1.css", nil)
	require.Equal(t, "a{}", w.Body.String())
	w = b.call("viewer", "GET", "/assets/old-1234.js", nil)
	b.want(404, nil, w)
	require.NotContains(t, w.Body.String(), "<html")
}

func TestBasePath(t *testing.T) {
	b := setUp(t, func(c *api.Config, _ *api.Deps) { c.BasePath = "/panoptes/" })
	for _, path := range []string{"/panoptes/checks", "/checks"} {
		w := b.call("", "GET", path, nil)
		require.Equal(t, "/panoptes/login?next=%2Fchecks", w.Header().Get("Location"), path)
	}
	w := b.call("viewer", "GET", "/panoptes/", nil)
	require.Contains(t, w.Body.String(), `<base href="/panoptes/">`)
	w = b.form("/panoptes/login", url.Values{"name": {"x"}, "password": {"right"}})
	require.Equal(t, "/panoptes/", w.Header().Get("Location"))
	require.Equal(t, "/panoptes/", w.Result().Cookies()[0].Path)

	// A proxy that is trusted says what it has stripped; strangers do not.
	b = setUp(t)
	for _, c := range []struct{ from, prefix, want string }{
		{"127.0.0.1:1", "/x/y/", "/x/y/login"},
		{"203.0.113.9:1", "/x", "/login"},
		{"127.0.0.1:1", "//evil.example", "/login"},
		{"127.0.0.1:1", `/\evil.example`, "/login"},
		{"127.0.0.1:1", `/a"><script>`, "/login"},
		{"127.0.0.1:1", `/../x`, "/login"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.from
		r.Header.Set("X-Forwarded-Prefix", c.prefix)
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, r)
		require.Equal(t, c.want, w.Header().Get("Location"), c)
	}
}

func TestLoginPage(t *testing.T) {
	b := setUp(t)
	w := b.call("", "GET", "/login?next=/checks", nil)
	b.want(200, nil, w)
	require.Less(t, w.Body.Len(), 12_000)
	require.Contains(t, w.Body.String(), `name="next" value="/checks"`)
	require.NotContains(t, w.Body.String(), "<script")
	require.Contains(t, b.call("", "GET", "/login", nil, "Accept-Language", "zh").Body.String(), "登录")

	w = b.form("/login", url.Values{"name": {`"><b>x`}, "password": {"wrong"}}, "Accept-Language", "zh-CN")
	b.want(401, nil, w)
	require.Contains(t, w.Body.String(), "用户名或密码错误")
	require.NotContains(t, w.Body.String(), "<b>x")

	w = b.form("/login", url.Values{"name": {"second"}, "password": {"right"}})
	b.want(401, nil, w)
	require.Contains(t, w.Body.String(), `name="otp"`)
	w = b.form("/login", url.Values{"name": {"limited"}, "password": {"x"}})
	b.want(429, nil, w)
	require.Equal(t, "90", w.Header().Get("Retry-After"))

	w = b.form("/login", url.Values{"name": {"alice"}, "password": {"right"}, "next": {"/checks?q=a"}})
	b.want(303, nil, w)
	require.Equal(t, "/checks?q=a", w.Header().Get("Location"))
	c := w.Result().Cookies()[0]
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, c.SameSite)
	require.False(t, c.Secure)
	w = b.form("/login", url.Values{"name": {"alice"}, "password": {"right"}}, "X-Forwarded-Proto", "https")
	require.False(t, w.Result().Cookies()[0].Secure, "a stranger's header is not believed")

	b.want(403, nil, b.form("/login", url.Values{"name": {"alice"}, "password": {"right"}}, "Sec-Fetch-Site", "cross-site"))
}

func TestNextStaysHere(t *testing.T) {
	b := setUp(t)
	for _, next := range []string{
		"//evil.example", "https://evil.example/", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "javascript:alert(1)", "evil", "/%0d%0aSet-Cookie:a=b\r\n", "/login",
		"///evil.example", "/ /evil", strings.Repeat("/a", 2000),
	} {
		w := b.form("/login", url.Values{"name": {"alice"}, "password": {"right"}, "next": {next}})
		b.want(303, nil, w)
		require.Equal(t, "/", w.Header().Get("Location"), "next=%q", next)
	}
	for _, next := range []string{"/", "/checks/01J?tab=a#b", "/explore?g0.expr=up%7Ba%3D%22b%22%7D"} {
		w := b.form("/login", url.Values{"name": {"alice"}, "password": {"right"}, "next": {next}})
		require.Equal(t, next, w.Header().Get("Location"))
	}
}
