package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"panoptes/internal/model"
)

const (
	adminName    = "admin"
	envKeyName   = "PANOPTES_API_KEY"
	initialFile  = "initial-admin-password"
	minEnvKeyLen = 8
)

// Bootstrap makes the first administrator when there is no user, and keeps the
// key of Config.APIKey in the catalog. It may be called again: what is there
// stays. A generated password is written to Deps.Out and to
// <DataDir>/initial-admin-password.
func (a *Auth) Bootstrap(ctx context.Context) error {
	if len(a.cat.List(model.KindUser)) == 0 {
		if err := a.firstAdmin(ctx); err != nil {
			return fmt.Errorf("make the first administrator: %w", err)
		}
	}
	a.forgetInitial()
	if err := a.envKey(ctx); err != nil {
		return fmt.Errorf("keep the key of PANOPTES_API_KEY: %w", err)
	}
	return nil
}

func (a *Auth) firstAdmin(ctx context.Context) error {
	password := a.cfg.AdminPassword
	generated := password == ""
	if generated {
		password = rand.Text()[:20]
		// Written first: a record whose password nobody knows locks all out.
		if a.cfg.DataDir != "" {
			if err := writeFile(a.initialPath(), []byte(password+"\n")); err != nil {
				return err
			}
		}
	}
	spec, err := json.Marshal(model.User{Name: adminName, Role: model.RoleAdmin, Password: model.Secret(password)})
	if err != nil {
		return err
	}
	_, err = a.cat.Create(ctx, "system", model.KindUser, spec)
	if errors.Is(err, model.ErrConflict) {
		return nil // another server was first
	}
	if err != nil && !generated {
		return fmt.Errorf("with PANOPTES_ADMIN_PASSWORD: %w", err)
	}
	if err != nil {
		return err
	}
	if generated {
		a.log.Info("first administrator made", "user", adminName, "password_file", a.initialPath())
		fmt.Fprintf(a.out, "\nThe administrator's name is %q, the password %q. It is also in %s until it is changed.\n\n", adminName, password, a.initialPath())
	}
	return nil
}

// envKey keeps the administrator's key of the environment as a record, and
// follows it when it changes.
func (a *Auth) envKey(ctx context.Context) error {
	key := a.cfg.APIKey
	if key == "" {
		return nil
	}
	if len(key) < minEnvKeyLen {
		return model.Invalid{{Field: envKeyName, Msg: fmt.Sprintf("must have at least %d characters", minEnvKeyLen)}}
	}
	if _, known := a.keyIndex()[hashToken(key)]; known {
		return nil
	}
	k := model.Key{Name: envKeyName, Role: model.RoleAdmin, Prefix: key[:4] + "…", Hash: model.Secret(hashToken(key))}
	spec, err := json.Marshal(k)
	if err != nil {
		return err
	}
	_, err = a.cat.Create(ctx, "system", model.KindKey, spec)
	if errors.Is(err, model.ErrConflict) {
		_, err = a.cat.Patch(ctx, "system", model.KindKey, envKeyName, spec, 0)
	}
	return err
}

func (a *Auth) initialPath() string { return filepath.Join(a.cfg.DataDir, initialFile) }

// forgetInitial removes the file with the first password once it opens
// nothing any more. It looks only after the catalog has changed.
func (a *Auth) forgetInitial() {
	if a.cfg.DataDir == "" {
		return
	}
	a.keyMu.Lock()
	gen := a.cat.Generation()
	same := gen == a.initialGen
	a.initialGen = gen
	a.keyMu.Unlock()
	if same {
		return
	}
	b, err := os.ReadFile(a.initialPath())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("first password not readable", "err", err)
		}
		return
	}
	_, u, err := a.user(adminName)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return
	}
	if err == nil && VerifyPassword(u.PasswordHash.Reveal(), strings.TrimSpace(string(b))) {
		return
	}
	if err := os.Remove(a.initialPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("first password not removed", "err", err)
		return
	}
	a.log.Info("first password removed, it has been changed")
}

func newEventID(t time.Time) string { return model.NewID(t) }
