package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/app"
	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/internal/run"
)

// serverFlags are the keys of the file that may also be given on the command line.
type serverFlags struct {
	file, node, region, dataDir, listen, logLevel string
	bind, advertise, join, token                  string
	portOffset                                    int
	sample, witness                               bool
}

func (f *serverFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "config", "", "configuration file (default $PANOPTES_CONFIG; none is needed)")
	fl.StringVar(&f.node, "node", "", "name of this server (default the host's name)")
	fl.StringVar(&f.region, "region", "", "place from which this server checks (default \"default\")")
	fl.StringVar(&f.dataDir, "data-dir", "", "directory for everything that is kept (default \"data\")")
	fl.StringVar(&f.listen, "listen", "", "address of pages and API (default 127.0.0.1:9700)")
	fl.StringVar(&f.bind, "bind", "", "address of this machine for all listeners; others reach it there (default 127.0.0.1)")
	fl.StringVar(&f.advertise, "advertise", "", "host by which other servers reach this one, when it is not the bind address")
	fl.StringVar(&f.join, "join", "", "HOST:9701 of a server whose cluster this one joins when it first starts")
	fl.StringVar(&f.token, "token", "", "what allows it to join; made by \"panoptes token create\"")
	fl.BoolVar(&f.witness, "witness", false, "only vote in the configuration store, for set-ups with two sites")
	fl.IntVar(&f.portOffset, "port-offset", 0, "added to every port, so that several servers share a machine")
	fl.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default info)")
}

// load merges file, environment and flags, the last being the strongest.
func (f *serverFlags) load(stdio IO) (config.Config, error) {
	env := append([]string(nil), stdio.Env...)
	for key, v := range map[string]string{"NODE": f.node, "REGION": f.region, "DATA_DIR": f.dataDir, "LISTEN": f.listen, "LOG_LEVEL": f.logLevel,
		"BIND": f.bind, "ADVERTISE": f.advertise, "JOIN": f.join, "TOKEN": f.token} {
		if v != "" {
			env = append(env, "PANOPTES_"+key+"="+v)
		}
	}
	if f.portOffset != 0 {
		env = append(env, fmt.Sprintf("PANOPTES_PORT_OFFSET=%d", f.portOffset))
	}
	if f.witness {
		env = append(env, "PANOPTES_WITNESS=true")
	}
	if f.sample {
		env = append(env, "PANOPTES_PROBE_ALLOW_LOOPBACK=true")
	}
	if f.file == "" {
		f.file = (&client{io: stdio}).env("PANOPTES_CONFIG")
	}
	cfg, err := config.Load(f.file, env)
	if err != nil {
		return cfg, &exitError{exitUsage, fmt.Errorf("the configuration has faults:\n%w", err)}
	}
	return cfg, nil
}

func newLogger(cfg config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	// Validate has seen the level already.
	_ = level.UnmarshalText([]byte(cfg.Level))
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func serverCmd(stdio IO) *cobra.Command {
	f := &serverFlags{}
	cmd := &cobra.Command{
		Use: "server", Args: cobra.NoArgs,
		Short: "Run a server",
		Long: `Run a server: checks, storage, alerting, API and pages in one process.

Without a file and without flags it keeps everything in ./data, listens on
loopback only, and prints the password of the first administrator once.`,
		Example: `  panoptes server
  panoptes server --config /etc/panoptes.yml
  panoptes server --sample          # with a set of sample targets to look at
  panoptes server --node n1 --region eu --bind 10.0.0.1
  panoptes server --node n2 --region us --bind 10.0.0.2 --join 10.0.0.1:9701 --token pnp1.…
  PANOPTES_ADMIN_PASSWORD=secret panoptes server --listen :9700 --data-dir /var/lib/panoptes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServer(cmd, stdio, f)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.sample, "sample", false, "serve sample targets on this machine and watch them")
	return cmd
}

func runServer(cmd *cobra.Command, stdio IO, f *serverFlags) error {
	cfg, err := f.load(stdio)
	if err != nil {
		return err
	}
	logger := newLogger(cfg.Log, cmd.ErrOrStderr())
	if os.Getenv("GOGC") == "" {
		// Series live long: a smaller reserve costs little time and, with
		// millions of them, gigabytes less.
		debug.SetGCPercent(75)
	}
	a, err := app.New(cmd.Context(), cfg, app.Options{Version: version, Logger: logger, Sample: f.sample, Notice: cmd.OutOrStdout()})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(cmd.Context()) }()
	select {
	case err := <-done:
		if !errors.Is(err, app.ErrBeginAnew) {
			return err
		}
	case <-a.Anew():
		select {
		case <-done:
		case <-time.After(anewPatience):
		}
	}
	if cmd.Context().Err() != nil {
		return nil // it was told to end meanwhile, and nobody tells the next process
	}
	return beginAnew(app.ErrBeginAnew)
}

// anewPatience is how long a server that must begin anew may take to stop.
const anewPatience = 5 * time.Second

// beginAnew replaces this process by a new one of the same program.
func beginAnew(why error) error {
	self, err := os.Executable()
	if err != nil {
		return errors.Join(why, fmt.Errorf("find this program: %w", err))
	}
	return errors.Join(why, run.Replace(self, os.Args, os.Environ()))
}

// recoverCmd is for the day on which most servers are lost for good.
func recoverCmd(stdio IO) *cobra.Command {
	f := &serverFlags{}
	var yes bool
	cmd := &cobra.Command{
		Use: "recover", Args: cobra.NoArgs,
		Short: "Make a stopped server go on alone when most servers are lost for good",
		Long: `Make this stopped server the only member of the configuration store, when the
majority of servers is lost for good and configuration can be changed nowhere.
What the lost servers had acknowledged and this one had not heard of is lost.
Samples, events and alerts are not touched; a copy of the old files is kept.

Afterwards start the server as usual, remove the lost ones with
"panoptes node remove NAME --force", and let new ones join. The lost servers
must never be started again with their old directories.`,
		Example: `  panoptes recover --config /etc/panoptes.yml --yes
  panoptes recover --node n1 --data-dir /var/lib/panoptes --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.load(stdio)
			if err != nil {
				return err
			}
			if !yes {
				return &exitError{exitUsage, fmt.Errorf("this gives up all other servers of the cluster; if that is what you want, say --yes")}
			}
			r, err := app.Recover(cmd.Context(), cfg, newLogger(cfg.Log, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "This server alone keeps the configuration now, as of revision %d.\n", r.Revision)
			if len(r.Removed) > 0 {
				fmt.Fprintf(out, "No members any more: %s\n", strings.Join(r.Removed, ", "))
			}
			_, err = fmt.Fprintf(out, "The files as they were: %s\nStart the server as usual.\n", r.Copy)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func configCmd(stdio IO) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check the configuration file"}
	f := &serverFlags{}
	check := &cobra.Command{
		Use: "check [FILE]", Args: cobra.MaximumNArgs(1),
		Short:   "Report all faults of a configuration file, with their lines",
		Example: "  panoptes config check /etc/panoptes.yml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.file = args[0]
			}
			if _, err := f.load(stdio); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
			return err
		},
	}
	cmd.AddCommand(check)
	return cmd
}

// verifyControlCmd is run by the server itself, in a child process: damaged
// files of the configuration store may end the process that reads them.
func verifyControlCmd() *cobra.Command {
	return &cobra.Command{
		Use: app.VerifyCommand + " DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return app.VerifyControl(args[0]) },
	}
}

func importCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Take over the configuration of other systems"}
	cmd.AddCommand(
		importFile(c, "alertmanager", "alertmanager.yml", "receivers, routes, inhibitions, time intervals", func(_ string, data []byte) ([]model.Document, []string, error) { return app.ImportAlertmanager(data) }),
		importFile(c, "prometheus", "prometheus.yml", "scrape jobs and rules", app.ImportPrometheus))
	return cmd
}

// importFile makes the command that takes over one kind of file.
func importFile(c *client, name, file, what string, read func(name string, data []byte) ([]model.Document, []string, error)) *cobra.Command {
	var apply, dry bool
	am := &cobra.Command{
		Use: name + " FILE", Args: cobra.ExactArgs(1),
		Short: "Take over a " + file + ": " + what,
		Long:  "Print a " + file + " as documents for apply, or apply them at once. What cannot be taken over is listed; nothing is dropped silently.",
		Example: fmt.Sprintf(`  panoptes import %[1]s %[2]s > records.yml
  panoptes import %[1]s %[2]s --apply`, name, file),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			docs, notes, err := read(args[0], data)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("%s: %w", args[0], err)}
			}
			for _, n := range notes {
				fmt.Fprintln(cmd.ErrOrStderr(), "note:", printable(n))
			}
			if !apply && !dry {
				return printDocuments(cmd.OutOrStdout(), docs)
			}
			path := "/v1/apply"
			if dry {
				path += "?dry_run=true"
			}
			var answer struct {
				Changes []struct{ Kind, Name, Op string } `json:"changes"`
			}
			if _, err := c.do(cmd.Context(), request{method: "POST", path: path, body: map[string]any{"documents": docs}}, &answer); err != nil {
				return err
			}
			for _, ch := range answer.Changes {
				fmt.Fprintln(cmd.OutOrStdout(), ch.Op, ch.Kind, printable(ch.Name))
			}
			return nil
		},
	}
	am.Flags().BoolVar(&apply, "apply", false, "write the records to the server")
	am.Flags().BoolVar(&dry, "dry-run", false, "show what applying would change")
	return am
}

func printDocuments(w io.Writer, docs []model.Document) error {
	for _, d := range docs {
		text, err := d.YAML()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "---\n%s\n", strings.TrimSpace(text)); err != nil {
			return err
		}
	}
	return nil
}
