package api

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"panoptes/internal/model"
)

//go:embed login.html
var loginHTML string

var loginTemplate = template.Must(template.New("login").Parse(loginHTML))

// loginTexts are the words of the login page.
var loginTexts = map[string]map[string]string{
	english: {
		"title": "Log in", "name": "Name", "password": "Password", "otp": "One-time code", "submit": "Log in",
		"wrong": "Name or password is wrong.", "otpNeeded": "Enter your password again and the code that your app shows.", "limited": "Too many attempts. Try again in a few minutes.",
		"crossOrigin": "Another site sent this form. Please log in here.", "failed": "Logging in is not possible right now. Try again in a moment.",
	},
	chinese: {
		"title": "登录", "name": "用户名", "password": "密码", "otp": "一次性验证码", "submit": "登录",
		"wrong": "用户名或密码错误。", "otpNeeded": "请再次输入密码，并填写验证器应用显示的验证码。", "limited": "尝试次数过多，请几分钟后再试。",
		"crossOrigin": "此表单来自其他网站，请在此处登录。", "failed": "暂时无法登录，请稍后再试。",
	},
}

type loginView struct {
	Lang, Other, OtherName string
	T                      map[string]string
	Action, Next, Name     string
	Error                  string
	OTP                    bool
	Nonce                  string
}

// loginPage answers the form; who is logged in goes on.
func (a *API) loginPage(w http.ResponseWriter, r *http.Request) {
	if id := who(r); id != nil && id.SessionID != "" {
		a.seeOther(w, r, next(r))
		return
	}
	if l := r.URL.Query().Get("lang"); l == english || l == chinese {
		http.SetCookie(w, &http.Cookie{Name: "panoptes_language", Value: l, Path: prefix(r) + "/", MaxAge: 365 * 24 * 3600, SameSite: http.SameSiteLaxMode, Secure: a.isTLS(r)})
		a.writeLogin(w, r, http.StatusOK, l, loginView{})
		return
	}
	a.writeLogin(w, r, http.StatusOK, a.language(r), loginView{})
}

// loginForm takes the form and begins a session.
func (a *API) loginForm(w http.ResponseWriter, r *http.Request) {
	lang := a.language(r)
	if err := a.csrf.Check(r); err != nil {
		a.writeLogin(w, r, http.StatusForbidden, lang, loginView{Error: "crossOrigin"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		a.writeLogin(w, r, http.StatusBadRequest, lang, loginView{Error: "failed"})
		return
	}
	v := loginView{Name: r.PostForm.Get("name")}
	l, err := a.deps.Auth.Login(r.Context(), credentials(r, v.Name, r.PostForm.Get("password"), strings.TrimSpace(r.PostForm.Get("otp"))))
	if err == nil {
		http.SetCookie(w, a.cookie(r, l.Token, l.Expires))
		a.seeOther(w, r, next(r))
		return
	}
	status, info := describe(err)
	var fe *model.FieldError
	switch {
	case errors.Is(err, model.ErrLimit):
		v.Error = "limited"
	case errors.As(err, &fe) && fe.Field == "otp":
		v.Error, v.OTP = "otpNeeded", true
	case errors.Is(err, model.ErrUnauthorized):
		v.Error = "wrong"
	default:
		v.Error = "failed"
		a.log.Error("login not possible", "code", info.Code, "err", err)
	}
	var ra retryAfter
	if errors.As(err, &ra) {
		w.Header().Set("Retry-After", seconds(ra.RetryAfter()))
	}
	a.writeLogin(w, r, status, lang, v)
}

// next is where to go after logging in: a page of this server.
func next(r *http.Request) string {
	n := r.FormValue("next")
	if n == "" || !safeNext(n) {
		return "/"
	}
	return n
}

func (a *API) seeOther(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", prefix(r)+to)
	w.WriteHeader(http.StatusSeeOther)
}

func (a *API) writeLogin(w http.ResponseWriter, r *http.Request, status int, lang string, v loginView) {
	v.Lang, v.T, v.Nonce, v.Action = lang, loginTexts[lang], newNonce(), prefix(r)+"/login"
	v.Other, v.OtherName = chinese, "中文"
	if lang == chinese {
		v.Other, v.OtherName = english, "English"
	}
	if v.Next = next(r); v.Next == "/" {
		v.Next = ""
	}
	if v.Error != "" {
		v.Error = v.T[v.Error]
	}
	var buf bytes.Buffer
	if err := loginTemplate.Execute(&buf, v); err != nil {
		a.fail(w, r, err)
		return
	}
	pageHeaders(w.Header(), v.Nonce)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // an error means that nobody listens
}
