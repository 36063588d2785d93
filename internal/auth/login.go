package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"panoptes/internal/model"
)

// errWrong is the one answer to a wrong name and a wrong password alike.
var errWrong = fmt.Errorf("%w: name or password is wrong", model.ErrUnauthorized)

// otpError asks for the one-time code: a model.ErrUnauthorized of field "otp".
func otpError(msg string) error {
	return fmt.Errorf("%w: %w", model.ErrUnauthorized, &model.FieldError{Field: "otp", Msg: msg})
}

// Login begins a session. Errors: model.ErrUnauthorized (with a FieldError of
// "otp" when the password was right and the one-time code is missing or
// wrong), *LimitError after too many tries.
func (a *Auth) Login(ctx context.Context, c model.Credentials) (model.Login, error) {
	rec, u, err := a.checkPassword(ctx, c)
	if err != nil {
		return model.Login{}, err
	}
	l, err := a.begin(rec, u, c)
	if err != nil {
		return model.Login{}, err
	}
	a.logins.WithLabelValues("ok").Inc()
	a.event(ctx, "auth.login", u.Name, "user/"+u.Name, "info", u.Name+" logged in from "+c.Address, c.Address)
	return l, nil
}

// checkPassword finds the user and checks password and one-time code, within
// the limits. A code is asked for only where a session is to begin: basic
// authentication looks at TOTPSecret itself and comes without a code.
func (a *Auth) checkPassword(ctx context.Context, c model.Credentials) (model.Record, model.User, error) {
	if err := a.limits.take(c.Name, c.Address, time.Now()); err != nil {
		a.logins.WithLabelValues("limited").Inc()
		return model.Record{}, model.User{}, err
	}
	rec, u, err := a.user(c.Name)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return rec, u, err
	}
	known := err == nil && u.Name == c.Name && u.PasswordHash != "" && !u.Disabled
	hash := nobody
	if known {
		hash = u.PasswordHash.Reveal()
	}
	right, err := a.verify(ctx, hash, c.Password)
	if err != nil {
		return rec, u, err
	}
	if !right || !known {
		a.failed(ctx, c)
		return rec, u, errWrong
	}
	if u.TOTPSecret != "" {
		if err := a.checkOTP(rec.ID, u, c.OTP); err != nil {
			// A missing code is the form's first step, not a failure, but it
			// stays counted: else the password could be tried for free.
			if c.OTP != "" {
				a.failed(ctx, c)
			}
			return rec, u, err
		}
	}
	a.limits.giveBack(c.Name, c.Address)
	return rec, u, nil
}

func (a *Auth) failed(ctx context.Context, c model.Credentials) {
	a.logins.WithLabelValues("wrong").Inc()
	a.event(ctx, "auth.login_failed", c.Name, "anonymous", "warning", "login refused from "+c.Address, c.Address)
}

// Logout ends the session of an identity.
func (a *Auth) Logout(ctx context.Context, id *model.Identity) {
	if id == nil || id.SessionID == "" {
		return
	}
	a.mu.Lock()
	a.endLocked(id.SessionID)
	a.mu.Unlock()
	a.event(ctx, "auth.logout", id.Name, id.Actor(), "info", id.Name+" logged out", "")
}

// ChangePassword sets a new password for the identity's user, which ends all
// its sessions, and begins a new one.
func (a *Auth) ChangePassword(ctx context.Context, id *model.Identity, password string, c model.Credentials) (model.Login, error) {
	if id.UserID == "" {
		return model.Login{}, fmt.Errorf("%w: a key has no password", model.ErrForbidden)
	}
	if err := CheckPassword(password); err != nil {
		return model.Login{}, err
	}
	if err := a.limits.take(id.Name, c.Address, time.Now()); err != nil {
		return model.Login{}, err
	}
	_, u, err := a.user(id.UserID)
	if err != nil {
		return model.Login{}, err
	}
	right, err := a.verify(ctx, u.PasswordHash.Reveal(), c.Password)
	if err != nil {
		return model.Login{}, err
	}
	if !right {
		a.failed(ctx, model.Credentials{Name: id.Name, Address: c.Address})
		return model.Login{}, &model.FieldError{Field: "old_password", Msg: "is not the current password"}
	}
	a.limits.giveBack(id.Name, c.Address)
	patch, err := json.Marshal(map[string]string{"password": password})
	if err != nil {
		return model.Login{}, err
	}
	rec, err := a.cat.Patch(ctx, id.Actor(), model.KindUser, id.UserID, patch, 0)
	if err != nil {
		return model.Login{}, err
	}
	if err := json.Unmarshal(rec.Spec, &u); err != nil {
		return model.Login{}, fmt.Errorf("read user %s: %w", rec.ID, err)
	}
	a.forgetInitial()
	a.event(ctx, "auth.password", id.Name, id.Actor(), "info", id.Name+" changed the password", c.Address)
	return a.begin(rec, u, c)
}

// usedCodes remembers the last time step whose code each user has used: a code
// that was looked over a shoulder does not open a second time.
type usedCodes struct {
	mu   sync.Mutex
	last map[string]int64 // guarded by mu; user id to time step
}

// checkOTP checks a six-digit code of the step now, before or after.
func (a *Auth) checkOTP(userID string, u model.User, code string) error {
	if code == "" {
		return otpError("a one-time code is needed")
	}
	now := time.Now()
	for _, d := range []int64{0, -1, 1} {
		at := now.Add(time.Duration(d) * 30 * time.Second)
		ok, err := totp.ValidateCustom(code, u.TOTPSecret.Reveal(), at, totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil || !ok {
			continue
		}
		if !a.codes.use(userID, at.Unix()/30) {
			return otpError("this one-time code has been used; wait for the next one")
		}
		return nil
	}
	return otpError("the one-time code is wrong; look at the clock of your device")
}

// use notes a step and says whether it is newer than all before.
func (u *usedCodes) use(userID string, step int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]int64{}
	}
	if step <= u.last[userID] {
		return false
	}
	u.last[userID] = step
	return true
}
