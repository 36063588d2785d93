package model

import "time"

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
