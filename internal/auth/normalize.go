package auth

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp/totp"

	"panoptes/internal/model"
)

// HiddenUser and HiddenKey are the fields of the records that are never shown.
var (
	HiddenUser = []string{"password_hash", "totp_secret"}
	HiddenKey  = []string{"hash"}
)

// NormalizeUser makes a user's spec ready to be stored: strict decode,
// validation, Password hashed into PasswordHash, hidden fields that the spec
// leaves out taken over from old (nil for a new record), Epoch raised when
// password, role, one-time code or Disabled change. An explicit empty
// "totp_secret" removes the one-time code.
func NormalizeUser(spec, old json.RawMessage) (json.RawMessage, error) {
	var u, was model.User
	if err := model.DecodeStrict(spec, &u); err != nil {
		return nil, err
	}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &was); err != nil {
			return nil, model.DecodeError(err)
		}
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(spec, &given); err != nil {
		return nil, model.DecodeError(err)
	}
	if u.PasswordHash == "" || u.PasswordHash == model.Redacted {
		u.PasswordHash = was.PasswordHash
	}
	if _, ok := given["totp_secret"]; !ok || u.TOTPSecret == model.Redacted {
		u.TOTPSecret = was.TOTPSecret
	}
	var inv model.Invalid
	inv.AddErr("", model.CheckName(u.Name))
	if strings.Contains(u.Name, ":") {
		inv.Add("name", "must not contain a colon; basic authentication could not name this user")
	}
	if !slices.Contains(model.Roles, u.Role) {
		inv.Add("role", "must be viewer, editor or admin")
	}
	if !slices.Contains([]string{"", "en", "zh-CN"}, u.Language) {
		inv.Add("language", "must be en or zh-CN")
	}
	checkBound(&inv, u.Role, u.Matchers)
	if len(u.DisplayName) > 128 {
		inv.Add("display_name", "is longer than 128 bytes")
	}
	if u.TOTPSecret != "" {
		if _, err := totp.GenerateCode(u.TOTPSecret.Reveal(), time.Unix(0, 0)); err != nil || len(u.TOTPSecret) < 16 {
			inv.Add("totp_secret", "must be a secret in base32 with at least 16 characters")
		}
	}
	// The epoch is ours to count; a spec brings one only when it is read again
	// without the record it belongs to.
	base := was.Epoch
	if len(old) == 0 {
		base = max(u.Epoch, 0)
	}
	changed := len(old) > 0 && (u.Role != was.Role || !slices.Equal(u.Matchers, was.Matchers) || u.Disabled != was.Disabled || u.TOTPSecret != was.TOTPSecret || u.PasswordHash != was.PasswordHash)
	if pw := u.Password.Reveal(); pw != "" && pw != model.Redacted {
		inv.AddErr("", CheckPassword(pw))
		if len(inv) > 0 {
			return nil, inv
		}
		// The password that is set already is no change, so that applying a
		// document twice does not end sessions.
		if !VerifyPassword(u.PasswordHash.Reveal(), pw) {
			u.PasswordHash = model.Secret(HashPassword(pw))
			changed = true
		}
	}
	u.Password = ""
	if u.PasswordHash == "" {
		inv.Add("password", "must be given for a new user")
	} else if _, err := parsePHC(u.PasswordHash.Reveal()); err != nil {
		inv.AddErr("password_hash", err)
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	u.Epoch = base
	if changed {
		u.Epoch++
	}
	return json.Marshal(u)
}

// NormalizeKey makes a key's spec ready to be stored. Hash and prefix that the
// spec leaves out are taken over from old (nil for a new record).
func NormalizeKey(spec, old json.RawMessage) (json.RawMessage, error) {
	var k, was model.Key
	if err := model.DecodeStrict(spec, &k); err != nil {
		return nil, err
	}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &was); err != nil {
			return nil, model.DecodeError(err)
		}
	}
	if k.Hash == "" || k.Hash == model.Redacted {
		k.Hash = was.Hash
		if k.Prefix == "" {
			k.Prefix = was.Prefix
		}
	}
	var inv model.Invalid
	inv.AddErr("", model.CheckName(k.Name))
	if !slices.Contains(model.Roles, k.Role) {
		inv.Add("role", "must be viewer, editor or admin")
	}
	if k.Expires != "" {
		if _, err := time.Parse(time.RFC3339, k.Expires); err != nil {
			inv.Add("expires", "must be a time like 2027-01-31T00:00:00Z, or empty for a key that does not expire")
		}
	}
	if len(k.Hash) != 64 || strings.Trim(k.Hash.Reveal(), "0123456789abcdef") != "" {
		inv.Add("hash", "must be the SHA-256 of the key in hex; POST /v1/keys makes a key")
	}
	if len(k.Prefix) > 32 {
		inv.Add("prefix", "is longer than 32 bytes")
	}
	checkBound(&inv, k.Role, k.Matchers)
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(k)
}

// checkBound looks at the matchers of a user or key.
func checkBound(inv *model.Invalid, role string, matchers []string) {
	if len(matchers) == 0 {
		return
	}
	_, err := model.Bound(matchers)
	inv.AddErr("", err)
	if role == model.RoleAdmin {
		inv.Add("matchers", "cannot bind an administrator, who may change them; choose the role viewer or editor")
	}
}
