package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

// serverFields are what answers add to a spec. Sent back they are ignored, so
// that what was read can be written.
var serverFields = []string{"id", "revision", "created_at", "updated_at", "state", "bars", "uptime"}

// recordMeta is what every record answers beside its spec.
type recordMeta struct {
	ID       string    `json:"id"`
	Revision int64     `json:"revision"`
	Created  time.Time `json:"created_at"`
	Updated  time.Time `json:"updated_at"`
}

// flat is the JSON of a record: meta and spec side by side, secrets redacted.
// more, when given, is a struct whose fields are added.
func (a *API) flat(rec model.Record, more any) (json.RawMessage, error) {
	rec = a.deps.Catalog.Redact(rec)
	meta := recordMeta{rec.ID, rec.Revision, rec.Created.UTC(), rec.Updated.UTC()}
	var out bytes.Buffer
	for _, part := range []any{meta, rec.Spec, more} {
		if part == nil {
			continue
		}
		b, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		inner := bytes.TrimSpace(b)
		if len(inner) < 2 || inner[0] != '{' {
			continue
		}
		inner = bytes.TrimSpace(inner[1 : len(inner)-1])
		if len(inner) == 0 {
			continue
		}
		if out.Len() == 0 {
			out.WriteByte('{')
		} else {
			out.WriteByte(',')
		}
		out.Write(inner)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// specOf reads the body of r: an object, without the fields that the server adds.
func specOf(r *http.Request) (json.RawMessage, error) {
	b, err := body(r)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, model.DecodeError(err)
	}
	if fields == nil {
		return nil, invalid("", "must be a JSON object")
	}
	for _, f := range serverFields {
		delete(fields, f)
	}
	return json.Marshal(fields)
}

// ifMatch reads the revision that the client has seen; 0 when any will do.
func ifMatch(r *http.Request) (int64, error) {
	h := strings.TrimSpace(r.Header.Get("If-Match"))
	if h == "" || h == "*" {
		return 0, nil
	}
	s := strings.TrimPrefix(h, "W/")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, invalid("If-Match", "must be the revision in quotes, as the header ETag shows it")
	}
	return n, nil
}

func etag(rec model.Record) http.Header {
	return http.Header{"Etag": {`"` + strconv.FormatInt(rec.Revision, 10) + `"`}}
}

// withRecord answers with a record and its ETag.
func (a *API) withRecord(rec model.Record, more any) (*reply, error) {
	b, err := a.flat(rec, more)
	if err != nil {
		return nil, err
	}
	return &reply{header: etag(rec), body: b}, nil
}

func (a *API) get(kind string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		rec, err := a.deps.Catalog.Get(kind, r.PathValue("id"))
		if err == nil && open(kind) {
			err = sees(r, rec)
		}
		if err != nil {
			return nil, err
		}
		return a.withRecord(rec, nil)
	}
}

func (a *API) create(res resource) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		spec, err := specOf(r)
		if err != nil {
			return nil, err
		}
		if spec, err = a.bind(r, res.kind, spec, false); err != nil {
			return nil, err
		}
		return a.created(r, res, spec, nil)
	}
}

// created stores a new record and answers where it is.
func (a *API) created(r *http.Request, res resource, spec json.RawMessage, more any) (any, error) {
	rec, err := a.deps.Catalog.Create(r.Context(), who(r).Actor(), res.kind, spec)
	if err != nil {
		return nil, err
	}
	if more == nil {
		more = a.stateOf(rec)
	}
	rep, err := a.withRecord(rec, more)
	if err != nil {
		return nil, err
	}
	rep.header.Set("Location", prefix(r)+"/v1/"+res.plural+"/"+url.PathEscape(rec.ID))
	return rep, nil
}

func (a *API) update(res resource) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		rev, err := ifMatch(r)
		if err != nil {
			return nil, err
		}
		spec, err := specOf(r)
		if err != nil {
			return nil, err
		}
		if err := a.reaches(r, res.kind); err != nil {
			return nil, err
		}
		if spec, err = a.bind(r, res.kind, spec, false); err != nil {
			return nil, err
		}
		if err := a.keepAdmin(res.kind, r.PathValue("id"), spec, false); err != nil {
			return nil, err
		}
		rec, err := a.deps.Catalog.Update(r.Context(), who(r).Actor(), res.kind, r.PathValue("id"), spec, rev)
		if err != nil {
			return nil, err
		}
		return a.withRecord(rec, a.stateOf(rec))
	}
}

func (a *API) patch(res resource) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		rev, err := ifMatch(r)
		if err != nil {
			return nil, err
		}
		patch, err := specOf(r)
		if err != nil {
			return nil, err
		}
		if err := a.reaches(r, res.kind); err != nil {
			return nil, err
		}
		if patch, err = a.bind(r, res.kind, patch, true); err != nil {
			return nil, err
		}
		if err := a.keepAdmin(res.kind, r.PathValue("id"), patch, true); err != nil {
			return nil, err
		}
		rec, err := a.deps.Catalog.Patch(r.Context(), who(r).Actor(), res.kind, r.PathValue("id"), patch, rev)
		if err != nil {
			return nil, err
		}
		return a.withRecord(rec, a.stateOf(rec))
	}
}

func (a *API) remove(res resource) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		rev, err := ifMatch(r)
		if err != nil {
			return nil, err
		}
		if err := a.reaches(r, res.kind); err != nil {
			return nil, err
		}
		if err := a.keepAdmin(res.kind, r.PathValue("id"), nil, false); err != nil {
			return nil, err
		}
		return nil, a.deps.Catalog.Delete(r.Context(), who(r).Actor(), res.kind, r.PathValue("id"), rev)
	}
}

// keepAdmin refuses what would leave no administrator able to log in: the last
// one deleted (spec nil), disabled or demoted.
func (a *API) keepAdmin(kind, idOrName string, spec json.RawMessage, patch bool) error {
	if kind != model.KindUser {
		return nil
	}
	rec, err := a.deps.Catalog.Get(kind, idOrName)
	if err != nil {
		return err
	}
	if !ableAdmin(rec.Spec) {
		return nil
	}
	after := spec
	if patch {
		var p struct {
			Role     *string `json:"role"`
			Disabled *bool   `json:"disabled"`
		}
		if json.Unmarshal(spec, &p) != nil || (p.Role == nil || *p.Role == admin) && (p.Disabled == nil || !*p.Disabled) {
			return nil // stays as it is, or the catalog says what is wrong
		}
		after = nil
	}
	if after != nil && ableAdmin(after) {
		return nil
	}
	for _, other := range a.deps.Catalog.List(kind) {
		if other.ID != rec.ID && ableAdmin(other.Spec) {
			return nil
		}
	}
	return errLastAdmin()
}

func errLastAdmin() error {
	return &conflict{field: "role", msg: "this is the last administrator; make another one first"}
}

// ableAdmin reports whether a user's spec is that of an administrator who may log in.
func ableAdmin(spec json.RawMessage) bool {
	var u struct {
		Role     string `json:"role"`
		Disabled bool   `json:"disabled"`
	}
	return json.Unmarshal(spec, &u) == nil && u.Role == admin && !u.Disabled
}

// conflict is a model.ErrConflict that names a field.
type conflict struct{ field, msg string }

func (e *conflict) Error() string { return e.msg }
func (e *conflict) Unwrap() []error {
	return []error{model.ErrConflict, &model.FieldError{Field: e.field, Msg: e.msg}}
}

// createKey makes an API key and shows it this once.
func (a *API) createKey(r *http.Request) (any, error) {
	spec, err := specOf(r)
	if err != nil {
		return nil, err
	}
	var k struct {
		Name    string `json:"name"`
		Role    string `json:"role"`
		Expires string `json:"expires,omitempty"`

		Matchers []string `json:"matchers,omitempty"`
	}
	if err := model.DecodeStrict(spec, &k); err != nil {
		return nil, err
	}
	key, prefix, hash := a.deps.Auth.NewKey()
	spec, err = json.Marshal(model.Key{Name: k.Name, Role: k.Role, Expires: k.Expires, Matchers: k.Matchers, Prefix: prefix, Hash: model.Secret(hash)})
	if err != nil {
		return nil, err
	}
	return a.created(r, resource{kind: model.KindKey, plural: "keys"}, spec, struct {
		Key string `json:"key"`
	}{key})
}
