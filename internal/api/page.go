package api

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// pages are the built pages: their files in memory, raw or zipped.
type pages struct {
	index  []byte // nil when the pages were not built
	assets map[string]asset
}

type asset struct {
	plain, gz []byte // one may be nil
	kind      string // Content-Type
	etag      string
}

// newPages reads the files, which are those embedded in the program.
func newPages(files fs.FS) (*pages, error) {
	p := &pages{assets: map[string]asset{}}
	if files == nil {
		return p, nil
	}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		p.add(name, b)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the pages: %w", err)
	}
	index := p.assets["index.html"]
	if p.index = index.plain; p.index == nil && index.gz != nil {
		if p.index, err = gunzip(index.gz); err != nil {
			return nil, fmt.Errorf("unzip index.html: %w", err)
		}
	}
	delete(p.assets, "index.html")
	return p, nil
}

func (p *pages) add(name string, b []byte) {
	plain, zipped := strings.CutSuffix(name, ".gz")
	if strings.HasSuffix(name, ".br") || path.Base(name)[0] == '.' || plain == "manifest.json" {
		return
	}
	a := p.assets[plain]
	if a.kind == "" {
		if a.kind = mime.TypeByExtension(path.Ext(plain)); a.kind == "" {
			a.kind = "application/octet-stream"
		}
	}
	if zipped {
		a.gz = b
	} else {
		a.plain = b
	}
	sum := sha256.Sum256(b)
	a.etag = hex.EncodeToString(sum[:8])
	p.assets[plain] = a
}

func gunzip(b []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// asset answers a file under /assets/, which has the hash of its content in
// its name. What is not there is 404 and never the page: a tab that is older
// than the server sees that it is.
func (a *API) asset(w http.ResponseWriter, r *http.Request) {
	f, ok := a.pages.assets[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		text(w, http.StatusNotFound, "not found")
		return
	}
	a.file(w, r, f, "public, max-age=31536000, immutable")
}

func (a *API) file(w http.ResponseWriter, r *http.Request, f asset, cache string) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", cache)
	h.Set("Vary", "Accept-Encoding")
	body, tag := f.plain, f.etag
	switch {
	case f.gz != nil && acceptsGzip(r):
		body, tag = f.gz, f.etag+"-gz"
		h.Set("Content-Encoding", "gzip")
	case body == nil:
		var err error
		if body, err = gunzip(f.gz); err != nil {
			a.fail(w, r, fmt.Errorf("unzip %s: %w", r.URL.Path, err))
			return
		}
	}
	tag = `"` + tag + `"`
	h.Set("ETag", tag)
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // an error means that nobody listens
	}
}

// bootData is what the page finds without asking.
type bootData struct {
	meAnswer
	Language string `json:"language"`
	Nonce    string `json:"nonce"`
}

const notBuilt = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Panoptes</title><body><h1>UI not built</h1><p>Run <code>make ui</code> and build the program again. The API works without it."

// page answers the client's routes with index.html, and files at the root
// (icons, the web manifest) with themselves.
func (a *API) page(w http.ResponseWriter, r *http.Request) {
	if !isRead(r) {
		a.unknown(w, r)
		return
	}
	if f, ok := a.pages.assets[strings.TrimPrefix(r.URL.Path, "/")]; ok {
		a.file(w, r, f, "no-cache")
		return
	}
	nonce := newNonce()
	pageHeaders(w.Header(), nonce)
	if a.pages.index == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, notBuilt) // an error means that nobody listens
		return
	}
	lang := a.language(r)
	boot, err := json.Marshal(bootData{a.meOf(who(r)), lang, nonce}) // escapes <, > and &
	if err != nil {
		a.fail(w, r, err)
		return
	}
	base := `<base href="` + html.EscapeString(prefix(r)) + `/">`
	script := `<script type="application/json" id="boot" nonce="` + nonce + `">` + string(boot) + `</script>`
	s := string(a.pages.index)
	s = insert(s, "<!--base-->", "<head>", true, base)
	s = insert(s, "<!--boot-->", "</head>", false, script)
	s = strings.Replace(s, `<html lang="en"`, `<html lang="`+lang+`"`, 1)
	b := []byte(s)
	if acceptsGzip(r) {
		var buf bytes.Buffer
		zw := gzip.NewWriter(&buf)
		_, _ = zw.Write(b) // a buffer takes everything
		_ = zw.Close()
		b = buf.Bytes()
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
}

// insert puts text in the place of a mark, or beside a tag when there is none.
func insert(s, mark, tag string, after bool, text string) string {
	switch {
	case strings.Contains(s, mark):
		return strings.Replace(s, mark, text, 1)
	case after:
		return strings.Replace(s, tag, tag+text, 1)
	}
	return strings.Replace(s, tag, text+tag, 1)
}

// pageHeaders are those of a page for people.
func pageHeaders(h http.Header, nonce string) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache, private")
	h.Set("Vary", "Accept-Encoding, Accept-Language, Cookie")
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'self'", "script-src 'self' 'nonce-" + nonce + "'", "style-src 'self' 'nonce-" + nonce + "'", "style-src-attr 'unsafe-inline'",
		"img-src 'self' data: blob:", "connect-src 'self'", "object-src 'none'", "base-uri 'self'", "form-action 'self'", "frame-ancestors 'none'",
	}, "; "))
}

// toLogin sends a person who is not logged in to the login page and back.
func (a *API) toLogin(w http.ResponseWriter, r *http.Request) {
	to := prefix(r) + "/login"
	if next := r.URL.RequestURI(); next != "/" && safeNext(next) {
		to += "?next=" + url.QueryEscape(next)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// safeNext reports whether a path leads to a page of this server. Browsers
// read a backslash as a slash and drop control characters.
func safeNext(next string) bool {
	if len(next) > 1024 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		return false
	}
	for _, c := range next {
		if c <= ' ' || c == '\\' || c == 0x7f {
			return false
		}
	}
	u, err := url.Parse(next)
	return err == nil && u.Host == "" && u.Scheme == "" && !strings.HasPrefix(u.Path, "//") && u.Path != "/login"
}

// The languages of the pages.
const (
	english = "en"
	chinese = "zh-CN"
)

// language is the user's own, else that of the cookie, else the first of the
// browser's that there is.
func (a *API) language(r *http.Request) string {
	if id := who(r); id != nil && (id.Language == english || id.Language == chinese) {
		return id.Language
	}
	if c, err := r.Cookie("panoptes_language"); err == nil && (c.Value == english || c.Value == chinese) {
		return c.Value
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(strings.ToLower(part)), ";")
		switch {
		case tag == "zh" || strings.HasPrefix(tag, "zh-"):
			return chinese
		case tag == "en" || strings.HasPrefix(tag, "en-"):
			return english
		}
	}
	return english
}

// newNonce makes a value that no page can foresee.
func newNonce() string {
	b := make([]byte, 16)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
