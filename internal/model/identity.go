package model

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// SessionCookie is the name of the cookie that carries a session's token.
const SessionCookie = "panoptes_session"

// Identity is who sent a request, after authentication.
type Identity struct {
	UserID      string // id of the record user; empty for a key
	KeyID       string // id of the record key; empty for a user
	Name        string
	DisplayName string
	Role        string
	Language    string // en, zh-CN or empty
	SessionID   string // hash of the session's token; empty without a session

	// Bound are labels: the identity sees only what has them, and what it
	// writes gets them. Empty for most.
	Bound labels.Labels
}

// Sees reports whether something with these labels is open to the identity. To
// nobody nothing is.
func (i *Identity) Sees(l map[string]string) bool {
	if i == nil {
		return false
	}
	sees := true
	i.Bound.Range(func(b labels.Label) { sees = sees && l[b.Name] == b.Value })
	return sees
}

// Actor spells the identity as events name it: "user/alice", "key/ci".
func (i *Identity) Actor() string {
	switch {
	case i == nil:
		return "anonymous"
	case i.KeyID != "":
		return "key/" + i.Name
	}
	return "user/" + i.Name
}

// Credentials are what a person types into the login form, and from where.
type Credentials struct {
	Name     string
	Password string
	OTP      string // one-time code, when the user has one set up
	Address  string // of the client, for limits and the audit
	Agent    string // User-Agent, for the list of sessions
}

// Login is a session that has just begun.
type Login struct {
	Token    string // goes into the cookie, kept nowhere else
	Expires  time.Time
	Identity Identity
}
