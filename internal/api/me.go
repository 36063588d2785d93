package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"panoptes/internal/model"
)

type loginBody struct {
	Name     string       `json:"name"`
	Password model.Secret `json:"password"`
	OTP      string       `json:"otp,omitempty"`
}

// userInfo is what people see of a user.
type userInfo struct {
	Name        string            `json:"name"`
	DisplayName string            `json:"display_name"`
	Role        string            `json:"role"`
	Language    string            `json:"language"`
	Bound       map[string]string `json:"bound,omitempty"` // labels: only what has them is shown
}

type loginAnswer struct {
	User userInfo `json:"user"`
}

type serverInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Node    string `json:"node"`
}

type meAnswer struct {
	User     userInfo   `json:"user"`
	Server   serverInfo `json:"server"`
	Writable bool       `json:"writable"`
	Reason   string     `json:"writable_reason"`
}

type mePatch struct {
	Language    *string       `json:"language,omitempty"`
	DisplayName *string       `json:"display_name,omitempty"`
	Password    *model.Secret `json:"password,omitempty"`
	OldPassword *model.Secret `json:"old_password,omitempty"`
}

func infoOf(id *model.Identity) userInfo {
	u := userInfo{Name: id.Name, DisplayName: id.DisplayName, Role: id.Role, Language: id.Language}
	if !id.Bound.IsEmpty() {
		u.Bound = id.Bound.Map()
	}
	return u
}

// credentials are those of a request's sender, with what the caller adds.
func credentials(r *http.Request, name, password, otp string) model.Credentials {
	return model.Credentials{Name: name, Password: password, OTP: otp, Address: address(r), Agent: r.UserAgent()}
}

func (a *API) login(r *http.Request) (any, error) {
	var b loginBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	l, err := a.deps.Auth.Login(r.Context(), credentials(r, b.Name, b.Password.Reveal(), b.OTP))
	if err != nil {
		return nil, err
	}
	return &reply{cookies: []*http.Cookie{a.cookie(r, l.Token, l.Expires)}, body: loginAnswer{infoOf(&l.Identity)}}, nil
}

func (a *API) logout(r *http.Request) (any, error) {
	a.deps.Auth.Logout(r.Context(), who(r))
	return &reply{cookies: []*http.Cookie{a.cookie(r, "", time.Unix(1, 0))}}, nil
}

// cookie makes the cookie of a session.
func (a *API) cookie(r *http.Request, token string, expires time.Time) *http.Cookie {
	return &http.Cookie{
		Name: model.SessionCookie, Value: token, Path: prefix(r) + "/", Expires: expires,
		HttpOnly: true, Secure: a.isTLS(r), SameSite: http.SameSiteLaxMode,
	}
}

func (a *API) me(r *http.Request) (any, error) { return a.meOf(who(r)), nil }

func (a *API) meOf(id *model.Identity) meAnswer {
	m := meAnswer{User: infoOf(id), Server: serverInfo{a.cfg.ServerName, a.cfg.Version, a.cfg.Node}, Writable: true}
	if err := a.deps.Catalog.Writable(); err != nil {
		m.Writable, m.Reason = false, plainReason(err.Error())
	}
	return m
}

func (a *API) patchMe(r *http.Request) (any, error) {
	var p mePatch
	if err := decode(r, &p); err != nil {
		return nil, err
	}
	id := who(r)
	if id.UserID == "" {
		return nil, fmt.Errorf("%w: an API key has no profile", model.ErrForbidden)
	}
	id = new(*id)
	patch := map[string]string{}
	if p.Language != nil {
		patch["language"], id.Language = *p.Language, *p.Language
	}
	if p.DisplayName != nil {
		patch["display_name"], id.DisplayName = *p.DisplayName, *p.DisplayName
	}
	if len(patch) > 0 {
		b, err := json.Marshal(patch)
		if err != nil {
			return nil, err
		}
		if _, err := a.deps.Catalog.Patch(r.Context(), id.Actor(), model.KindUser, id.UserID, b, 0); err != nil {
			return nil, err
		}
	}
	rep := &reply{}
	if p.Password != nil {
		if p.OldPassword == nil {
			return nil, invalid("old_password", "must be given to set a new password")
		}
		l, err := a.deps.Auth.ChangePassword(r.Context(), id, p.Password.Reveal(), credentials(r, id.Name, p.OldPassword.Reveal(), ""))
		if err != nil {
			return nil, err
		}
		rep.cookies = []*http.Cookie{a.cookie(r, l.Token, l.Expires)}
	}
	rep.body = a.meOf(id)
	return rep, nil
}
