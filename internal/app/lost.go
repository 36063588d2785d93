package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"panoptes/internal/model"
)

// fellows names the other servers and witnesses that were on record when this
// server last ran; none when it never ran, or that cannot be read.
func (a *App) fellows() (names []string) {
	for _, n := range a.fellowNodes() {
		names = append(names, n.Name)
	}
	return names
}

func (a *App) fellowNodes() (nodes []model.Node) {
	data, err := os.ReadFile(a.cfg.Path("catalog.json"))
	if err != nil {
		return nil
	}
	var file struct {
		Body struct {
			Records []struct {
				Key   string `json:"key"`
				Value struct {
					Spec model.Node `json:"spec"`
				} `json:"value"`
			} `json:"records"`
		} `json:"body"`
	}
	// Records of other kinds need not look like nodes.
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(data, &file); err != nil && !errors.As(err, &odd) {
		return nil
	}
	for _, r := range file.Body.Records {
		_, id, ok := strings.Cut(r.Key, "/record/"+model.KindNode+"/")
		n := r.Value.Spec
		if ok && id != "" && !n.Revoked && n.Role != model.RoleAgent && n.Name != a.cfg.Node {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// lostControl is an error when the files of the configuration store are gone
// from a server that is not alone. Beginning anew would give this server a
// configuration of its own, beside that of the others.
func (a *App) lostControl() error {
	if dataExists(a.cfg.Path("control", "member")) || len(a.welcome.Members) == 0 && len(a.welcome.Clients) > 0 {
		return nil // a client of the others has no files
	}
	if names := a.fellows(); len(names) > 0 {
		return fmt.Errorf("its files are gone, and %s on record with this server", are(names))
	}
	return nil
}

func are(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, ", ") + " are"
}

// controlRemedy says what to do about a damaged configuration store.
func (a *App) controlRemedy() string {
	if names := a.fellows(); len(names) > 0 {
		return fmt.Sprintf("the others have all of it: stop this server, remove it at another one with `panoptes node remove %s`, and join again with a new token and an empty data directory", a.cfg.Node)
	}
	return "restore it from a backup; without one, save the records seen last with `panoptes export`, move the directory away, start again and apply them"
}
