package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/agentcli"
	"panoptes/internal/release"
	"panoptes/internal/wire/manifest"
)

// agentCmd is the program of the agent, for hosts that have this one, and the
// signing of what agents update themselves with.
func agentCmd(stdio IO) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run an agent, or sign the programs that agents update themselves with",
		Long: `Run an agent on this host. It takes the options of panoptes-agent, which is the
same in a small program of its own; see "panoptes agent --help-agent".

keygen and sign are for operators whose agents update themselves.`,
		Example: `  panoptes agent --join 10.0.0.1:9701 --token pnp1.…
  panoptes agent keygen agents.key
  panoptes agent sign --key agents.key bin/agents`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for i, a := range args {
				switch a {
				case "--help", "-h":
					return cmd.Help()
				case "--help-agent":
					args[i] = "--help"
				}
			}
			env := (&client{io: stdio}).env
			if code := agentcli.Main(cmd.Context(), args, agentcli.Streams{Out: stdio.Out, Err: stdio.Err, Getenv: env, Version: version}); code != 0 {
				return &exitError{code, nil}
			}
			return nil
		},
	}
	cmd.AddCommand(agentKeygenCmd(), agentSignCmd())
	return cmd
}

func agentKeygenCmd() *cobra.Command {
	return &cobra.Command{
		Use: "keygen FILE", Args: cobra.ExactArgs(1),
		Short: "Make the key that programs of agents are signed with",
		Long: `Make a key pair. The private half goes to FILE, which should not be on a server:
whoever has it decides what runs on all hosts. The public half is printed; it
belongs into the file of each agent that may update itself.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			public, private, err := manifest.NewKey()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return &exitError{exitUsage, fmt.Errorf("%s is there already; it is not overwritten", args[0])}
			}
			if err != nil {
				return fmt.Errorf("write the key: %w", err)
			}
			_, err = fmt.Fprintln(f, private)
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				return fmt.Errorf("write the key: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The private key is in %s. Keep it away from the servers.\nOn each host, in /etc/panoptes/agent.yml:\n\nupdate:\n  enabled: true\n  key: %s\n", printable(args[0]), public)
			return err
		},
	}
}

func agentSignCmd() *cobra.Command {
	var key, version string
	var from []string
	cmd := &cobra.Command{
		Use: "sign --key FILE DIR", Args: cobra.ExactArgs(1),
		Short: "Sign the programs of agents in a directory",
		Long: `Write manifest.json, which lists the programs of agents in DIR with their hashes,
and manifest.json.sig over its exact bytes. Copy the directory to the servers
(agents.dir) afterwards.`,
		Example: `  panoptes agent sign --key agents.key bin/agents
  panoptes agent sign --key agents.key --version 1.4.1 --downgrade-from 1.5.0 bin/agents`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return &exitError{exitUsage, errors.New("--key is missing; 'panoptes agent keygen FILE' makes one")}
			}
			private, err := os.ReadFile(key)
			if err != nil {
				return fmt.Errorf("read the key: %w", err)
			}
			m := manifest.Manifest{Version: version, DowngradeFrom: from}
			if err := release.Sign(args[0], string(private), m, time.Now()); err != nil {
				return err
			}
			text, err := os.ReadFile(filepath.Join(args[0], manifest.Name))
			if err != nil {
				return fmt.Errorf("read what was written: %w", err)
			}
			if m, err = manifest.Parse(text); err != nil {
				return err
			}
			var names []string
			for _, f := range m.Files {
				names = append(names, f.Platform.String())
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "signed version %s for %s\n", m.Version, strings.Join(names, ", "))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "`file` with the private key")
	f.StringVar(&version, "version", "", "of the programs (default: what the file VERSION beside them says)")
	f.StringSliceVar(&from, "downgrade-from", nil, "newer versions whose agents may go back to this one")
	return cmd
}
