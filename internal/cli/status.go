package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"panoptes/internal/model"
)

// The exit codes of status, as monitoring plug-ins use them.
const (
	statusOK = iota
	statusWarning
	statusCritical
	statusUnknown
)

func statusCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		Short: "Tell how the server and its cluster are; exit code 0 ok, 1 warning, 2 critical, 3 unknown",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var h struct {
				Status string  `json:"status"`
				Score  float64 `json:"score"`
				Levels map[string]struct {
					Status string `json:"status"`
					Parts  []struct {
						Name    string `json:"name"`
						Status  string `json:"status"`
						Message string `json:"message"`
					} `json:"parts"`
				} `json:"levels"`
			}
			var raw json.RawMessage
			if _, err := c.do(cmd.Context(), request{path: "/api/health"}, &raw); err != nil {
				return &exitError{statusUnknown, err}
			}
			if err := json.Unmarshal(raw, &h); err != nil {
				return &exitError{statusUnknown, fmt.Errorf("decode health: %w", err)}
			}
			cluster, err := c.clusterOf(cmd)
			if err != nil {
				return &exitError{statusUnknown, err}
			}
			w := cmd.OutOrStdout()
			if out.json() {
				if err := printStatusJSON(w, &out, raw, cluster); err != nil {
					return err
				}
			} else {
				levels := slices.Sorted(maps.Keys(h.Levels))
				fmt.Fprintf(w, "%s, score %.0f of 100", h.Status, h.Score)
				for _, level := range levels {
					fmt.Fprintf(w, ", %s %s", level, h.Levels[level].Status)
				}
				fmt.Fprintln(w)
				var rows [][]string
				for _, level := range levels {
					for _, p := range h.Levels[level].Parts {
						rows = append(rows, []string{level, p.Name, p.Status, p.Message})
					}
				}
				if err := table(w, "(log in, or give a key, to see the parts)", []string{"LEVEL", "PART", "STATUS", "MESSAGE"}, rows); err != nil {
					return err
				}
				if err := cluster.print(w); err != nil {
					return err
				}
			}
			switch h.Status {
			case "ok":
				return nil
			case "warning":
				return &exitError{code: statusWarning}
			case "critical":
				return &exitError{code: statusCritical}
			}
			return &exitError{code: statusUnknown}
		},
	}
	out.flag(cmd)
	return cmd
}

// printStatusJSON adds the cluster to what the server says about its health.
func printStatusJSON(w io.Writer, out *output, health json.RawMessage, v clusterView) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(health, &all); err != nil {
		return fmt.Errorf("decode health: %w", err)
	}
	if v.Cluster != nil {
		all["cluster"], all["nodes"] = v.Cluster, v.Nodes
	}
	return out.printJSON(w, all)
}

func loginCmd(c *client) *cobra.Command {
	var user, role string
	cmd := &cobra.Command{
		Use: "login [URL]", Args: cobra.MaximumNArgs(1),
		Short:   "Log in to a server and keep an API key for the other commands",
		Long:    "Log in with name and password (read from standard input); the server makes an API key that is kept in the login file, readable by you alone. Needs the admin role, which may make keys; others get a key from an administrator and use PANOPTES_API_KEY.",
		Example: "  panoptes login http://127.0.0.1:9700 --user admin",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				c.server = args[0]
			}
			server, _ := c.where()
			fmt.Fprintf(cmd.ErrOrStderr(), "password of %s at %s: ", user, server)
			password, err := readLine(cmd.InOrStdin())
			if err != nil || password == "" {
				return &exitError{exitUsage, errors.New("no password given; type it, or send it on standard input")}
			}
			host, err := os.Hostname()
			if err != nil {
				host = "cli"
			}
			name := fmt.Sprintf("cli %s %s", user, strings.ToLower(host))
			auth := func(r *http.Request) { r.SetBasicAuth(user, password) }
			var key struct {
				Key string `json:"key"`
			}
			create := request{method: http.MethodPost, path: "/v1/keys", body: model.Key{Name: name, Role: role}, auth: auth}
			_, err = c.do(cmd.Context(), create, &key)
			var e *apiError
			if errors.As(err, &e) && e.Code == "conflict" {
				// The same machine logs in again: its old key is replaced.
				if _, err = c.do(cmd.Context(), request{method: http.MethodDelete, path: "/v1/keys/" + strings.ReplaceAll(name, " ", "%20"), auth: auth}, nil); err == nil {
					_, err = c.do(cmd.Context(), create, &key)
				}
			}
			if err != nil {
				return fmt.Errorf("log in to %s: %w", server, err)
			}
			path, err := c.loginFile()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return fmt.Errorf("keep the login: %w", err)
			}
			data, err := json.Marshal(login{Server: server, APIKey: key.Key})
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				return fmt.Errorf("keep the login: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "logged in; the key is in %s\n", path)
			return nil
		},
	}
	cmd.Flags().StringVar(&user, "user", "admin", "name of the user")
	cmd.Flags().StringVar(&role, "role", "editor", "role of the key: viewer, editor or admin")
	return cmd
}

// readLine reads up to a line feed, byte by byte, so that the rest stays unread.
func readLine(r interface{ Read([]byte) (int, error) }) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < 4096 {
		n, err := r.Read(b)
		if n == 1 {
			if b[0] == '\n' {
				break
			}
			line = append(line, b[0])
		}
		if err != nil {
			break
		}
	}
	return strings.TrimRight(string(line), "\r"), nil
}
