// Package cli holds the commands. A command parses flags, calls app or the API
// of a server, and prints; nothing is decided here.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// IO is what a command may touch of the process.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Env      []string
}

// OS returns the process's own IO.
func OS() IO { return IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ()} }

// exitError ends the program with a code that scripts may rely on.
type exitError struct {
	code int
	err  error // may be nil: the output said it all
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Exit codes of all commands but status: 0 done, 1 failed, 2 wrong usage or
// input. status: 0 ok, 1 warning, 2 critical, 3 unknown.
const (
	exitFailed = 1
	exitUsage  = 2
)

// Main runs a command line and returns the exit code.
func Main(ctx context.Context, args []string, stdio IO) int {
	root := newRoot(stdio)
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(stdio.Err, "panoptes:", exit.err)
		}
		return exit.code
	}
	fmt.Fprintln(stdio.Err, "panoptes:", err)
	return exitFailed
}

func newRoot(stdio IO) *cobra.Command {
	root := &cobra.Command{
		Use:   "panoptes",
		Short: "Monitoring that never goes blind",
		Long: `Panoptes watches hosts, endpoints and metrics, decides what is wrong, warns
people and shows it on a web page.

Start a server with "panoptes server" and open http://127.0.0.1:9700.
The other commands talk to a server; tell them where it is with --server and
--api-key, with PANOPTES_SERVER and PANOPTES_API_KEY, or once with "panoptes login".`,
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	c := &client{io: stdio}
	root.PersistentFlags().StringVar(&c.server, "server", "", "address of the server (default $PANOPTES_SERVER, the login file, or "+defaultServer+")")
	root.PersistentFlags().StringVar(&c.key, "api-key", "", "API key (default $PANOPTES_API_KEY or the login file)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w\nSee %q", err, cmd.CommandPath()+" --help")}
	})
	root.AddCommand(
		serverCmd(stdio), agentCmd(stdio), demoCmd(stdio), recoverCmd(stdio), configCmd(stdio), verifyControlCmd(),
		loginCmd(c), statusCmd(c),
		checkCmd(c), hostCmd(c), nodeCmd(c), tokenCmd(c), getCmd(c), deleteCmd(c),
		applyCmd(c), exportCmd(c), importCmd(c),
		queryCmd(c), silenceCmd(c), alertCmd(c), eventCmd(c), backupCmd(c), rulesCmd(),
		versionCmd(c),
	)
	strict(root)
	return root
}

func versionCmd(c *client) *cobra.Command {
	out := output{}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "panoptes %s (%s, %s)\n", v["version"], v["go"], v["platform"])
			return err
		},
	}
	out.flag(cmd)
	return cmd
}
