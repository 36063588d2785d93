package model

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Receiver is the record "receiver": one place to send notifications to, one
// block named after its type.
type Receiver struct {
	ID       string `json:"-"`
	Revision int64  `json:"-"`

	Name        string `json:"name"`
	Type        string `json:"type"` // webhook, email, slack, telegram, …
	Description string `json:"description,omitempty"`

	// Block holds the receiver's own settings, or a list of such objects: an
	// imported receiver may have several of a type.
	Block json.RawMessage `json:"-"`
	// More holds further blocks by type, for receivers taken over from an
	// alertmanager.yml that send to several kinds at once.
	More map[string]json.RawMessage `json:"more,omitempty"`
}

// UnmarshalJSON reads the flat form; unknown fields are refused.
func (r *Receiver) UnmarshalJSON(b []byte) error {
	type plain Receiver
	var p plain
	block, err := Typed(b, &p)
	if err != nil {
		return err
	}
	p.ID, p.Revision = r.ID, r.Revision
	*r = Receiver(p)
	r.Block = block
	return nil
}

// MarshalJSON writes the flat form with the block named after the type.
func (r Receiver) MarshalJSON() ([]byte, error) {
	type plain Receiver
	b, err := json.Marshal(plain(r))
	if err != nil || len(r.Block) == 0 || r.Type == "" {
		return b, err
	}
	return withBlock(b, r.Type, r.Block)
}

// Route is the record "route": one node of Alertmanager's routing tree. The
// one without a parent is the root; siblings are tried in order of Position,
// then name.
type Route struct {
	ID       string `json:"-"`
	Revision int64  `json:"-"`

	Name           string   `json:"name"`
	Parent         string   `json:"parent"` // name or id of a route; empty for the root
	Position       int      `json:"position,omitempty"`
	Receiver       string   `json:"receiver,omitempty"` // name of a receiver; may be left out below the root
	Matchers       []string `json:"matchers,omitempty"` // Alertmanager's syntax: severity=~"critical|warning"
	GroupBy        []string `json:"group_by,omitempty"` // label names or "..."
	GroupWait      string   `json:"group_wait,omitempty"`
	GroupInterval  string   `json:"group_interval,omitempty"`
	RepeatInterval string   `json:"repeat_interval,omitempty"`
	Continue       bool     `json:"continue,omitempty"`
	MuteTimes      []string `json:"mute_time_intervals,omitempty"`   // names of interval records
	ActiveTimes    []string `json:"active_time_intervals,omitempty"` // names of interval records
}

// Inhibition is the record "inhibition": alerts that match Source mute those
// that match Target when the labels in Equal agree.
type Inhibition struct {
	Name           string   `json:"name"`
	SourceMatchers []string `json:"source_matchers"`
	TargetMatchers []string `json:"target_matchers"`
	Equal          []string `json:"equal,omitempty"`
}

// Interval is the record "interval": a named set of times for routes, in
// Alertmanager's form of time_intervals.
type Interval struct {
	Name          string          `json:"name"`
	TimeIntervals json.RawMessage `json:"time_intervals"`
}

// Region is the record "region": a place that votes. Naming one makes it part
// of the denominator even when no worker lives there.
type Region struct {
	Name        string  `json:"name"`
	Description string  `json:"description,omitempty"`
	Weight      float64 `json:"weight,omitempty"` // for policies with weights; default 1
}

// Maintenance is the record "maintenance": while it is active the matching
// checks are in state maintenance and do not notify.
type Maintenance struct {
	ID string `json:"-"`

	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Checks      []string          `json:"checks,omitempty"`   // ids or names; empty with Matchers
	Matchers    map[string]string `json:"matchers,omitempty"` // labels of checks that must be equal; all checks when both are empty and All is set
	All         bool              `json:"all,omitempty"`
	Start       string            `json:"start,omitempty"`    // RFC 3339; for one window
	End         string            `json:"end,omitempty"`      // RFC 3339
	Cron        string            `json:"cron,omitempty"`     // "minute hour day month weekday", for repeated windows
	Duration    Duration          `json:"duration,omitempty"` // length of a repeated window
	Timezone    string            `json:"timezone,omitempty"` // IANA name; default UTC
	Paused      bool              `json:"paused,omitempty"`
}

// Roles of users and keys, the weakest first.
const (
	RoleViewer = "viewer" // reads
	RoleEditor = "editor" // changes checks, silences, routes, receivers, …
	RoleAdmin  = "admin"  // users, keys, settings
)

// Roles lists the roles, the weakest first.
var Roles = []string{RoleViewer, RoleEditor, RoleAdmin}

// AtLeast reports whether role may do what need asks for.
func AtLeast(role, need string) bool {
	return slices.Index(Roles, role) >= slices.Index(Roles, need) && slices.Contains(Roles, role)
}

// User is the record "user". The password arrives in Password and is kept as
// PasswordHash only.
type User struct {
	Name         string   `json:"name"`
	DisplayName  string   `json:"display_name,omitempty"`
	Role         string   `json:"role"`
	Language     string   `json:"language,omitempty"`      // en, zh-CN
	Password     Secret   `json:"password,omitempty"`      // write-only
	PasswordHash Secret   `json:"password_hash,omitempty"` // Argon2id, PHC string; never shown
	TOTPSecret   Secret   `json:"totp_secret,omitempty"`   // never shown
	Disabled     bool     `json:"disabled,omitempty"`
	Epoch        int64    `json:"epoch,omitempty"` // raised when password or role change; ends older sessions
	Scopes       []string `json:"scopes,omitempty"`
	Matchers     []string `json:"matchers,omitempty"` // see Bound; the user sees nothing else
}

// Key is the record "key": an API key. The key itself is shown once.
type Key struct {
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Expires  string   `json:"expires,omitempty"`  // RFC 3339; empty never
	Matchers []string `json:"matchers,omitempty"` // see Bound; the key reads and writes nothing else
	Prefix   string   `json:"prefix,omitempty"`   // first characters, to recognise it
	Hash     Secret   `json:"hash,omitempty"`     // SHA-256 of the key, hex; never shown
}

// Setting is the record "setting": one value that all servers share.
type Setting struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// Index makes the path of a list entry: Index("a", 2) is "a[2]".
func Index(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
