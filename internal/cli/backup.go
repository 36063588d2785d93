package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/app"
	"panoptes/internal/backup"
	"panoptes/internal/config"
	"panoptes/internal/model"
)

// bucketFlag names the file that describes the bucket.
type bucketFlag struct{ file string }

func (b *bucketFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.file, "bucket", "", "YAML file that describes the bucket: type FILESYSTEM or S3, config, prefix (default $PANOPTES_BUCKET)")
}

func (b *bucketFlag) open(c *client) (backup.Bucket, error) {
	file := first(b.file, c.env("PANOPTES_BUCKET"))
	if file == "" {
		return nil, &exitError{exitUsage, fmt.Errorf("name the file that describes the bucket with --bucket")}
	}
	conf, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the description of the bucket: %w", err)
	}
	bucket, err := backup.NewBucket(conf)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("%s: %w", file, err)}
	}
	return bucket, nil
}

func backupCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup", Short: "Copy a server into a bucket, check the copy, bring it back",
		Long: `A backup holds the configuration, samples, events, silences and identity of a
server. It lies in a directory or in object storage, every byte has a checksum,
and what has not changed since the backup before is not sent again. Secrets in
it are sealed with a recovery key, which the first backup prints: keep it away
from the bucket, nobody can restore without it.`,
	}
	cmd.AddCommand(backupCreateCmd(c), backupListCmd(c), backupVerifyCmd(c), backupRestoreCmd(c), backupResumeCmd(c))
	return cmd
}

func backupCreateCmd(c *client) *cobra.Command {
	var dir string
	b, out := &bucketFlag{}, output{}
	cmd := &cobra.Command{
		Use: "create", Args: cobra.NoArgs,
		Short: "Back up a running server, or with --stopped a directory",
		Long: `Ask a running server for a backup into its own bucket (backup.bucket in its
configuration file), or copy the directory of a stopped one.`,
		Example: `  panoptes backup create
  panoptes backup create --stopped /var/lib/panoptes --bucket bucket.yml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				var made struct {
					backup.Created
					RecoveryKey model.Secret `json:"recovery_key"`
				}
				if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/backup", timeout: forever}, &made); err != nil {
					return err
				}
				return printCreated(cmd.OutOrStdout(), out, made.Created, made.RecoveryKey)
			}
			bucket, err := b.open(c)
			if err != nil {
				return err
			}
			defer bucket.Close()
			show := func(made backup.Created, key model.Secret) error {
				return printCreated(cmd.OutOrStdout(), out, made, key)
			}
			return app.BackupStopped(cmd.Context(), version, dir, bucket, show, newLogger(config.Log{Level: "warn"}, cmd.ErrOrStderr()))
		},
	}
	b.add(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&dir, "stopped", "", "data directory of a stopped server")
	return cmd
}

func printCreated(w io.Writer, out output, made backup.Created, key model.Secret) error {
	if out.json() {
		return out.printJSON(w, map[string]any{"id": made.ID, "files": made.Files, "bytes": made.Bytes, "uploaded": made.Uploaded, "recovery_key": key})
	}
	if _, err := fmt.Fprintf(w, "Backup %s: %d files, %s, of which %s were new.\n", made.ID, made.Files, size(made.Bytes), size(made.Uploaded)); err != nil {
		return err
	}
	if key == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nRecovery key, shown this once:\n\n  %s\n\nKeep it away from the bucket. Without it no backup of this server can be restored.\n", key.Reveal())
	return err
}

func size(n int64) string {
	const units = "kMGT"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

func backupListCmd(c *client) *cobra.Command {
	b, out := &bucketFlag{}, output{}
	cmd := &cobra.Command{
		Use: "list", Args: cobra.NoArgs, Short: "List the backups in a bucket, the newest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			bucket, err := b.open(c)
			if err != nil {
				return err
			}
			defer bucket.Close()
			list, lerr := backup.List(cmd.Context(), bucket)
			if lerr != nil && list == nil {
				return lerr
			}
			if out.json() {
				rows := make([]map[string]any, 0, len(list))
				for _, m := range list {
					rows = append(rows, map[string]any{"id": m.ID, "time": m.Time, "info": m.Info, "files": len(m.Files), "bytes": m.Bytes(), "recovery_key": m.RecoveryKey})
				}
				if err := out.printJSON(cmd.OutOrStdout(), rows); err != nil {
					return err
				}
				return lerr
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tTIME\tSERVER\tSIZE\tRECOVERY KEY")
			for _, m := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.ID, m.Time.Local().Format(time.DateTime), m.Info.Node, size(m.Bytes()), m.RecoveryKey)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			return lerr
		},
	}
	b.add(cmd)
	out.flag(cmd)
	return cmd
}

// recoveryKey is taken from the environment, so that it is in no list of processes.
func recoveryKey(c *client) model.Secret { return model.Secret(c.env("PANOPTES_RECOVERY_KEY")) }

func backupVerifyCmd(c *client) *cobra.Command {
	b := &bucketFlag{}
	var scratch string
	cmd := &cobra.Command{
		Use: "verify [ID]", Args: cobra.MaximumNArgs(1),
		Short: "Check every byte of a backup, and that its samples and events can be read",
		Long: `Fetch a backup (the newest without ID) into an empty directory, compare all
checksums, open samples and events and count them. The directory is emptied
again. With PANOPTES_RECOVERY_KEY what is sealed is opened as well.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			bucket, err := b.open(c)
			if err != nil {
				return err
			}
			defer bucket.Close()
			if scratch == "" {
				if scratch, err = os.MkdirTemp("", "panoptes-verify-"); err != nil {
					return err
				}
				defer func() {
					if rerr := os.RemoveAll(scratch); err == nil {
						err = rerr
					}
				}()
			}
			var found backup.Counts
			m, err := backup.Verify(cmd.Context(), bucket, first(args...), backup.VerifyOptions{Scratch: scratch, RecoveryKey: recoveryKey(c),
				Check: func(ctx context.Context, dir string, m *backup.Manifest) (err error) {
					found, err = app.CheckBackup(ctx, dir, m)
					return err
				}})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Backup %s of %s (%s) is sound: %d files, %s; %d series with %d samples, %d events.\n",
				m.ID, m.Info.Node, m.Time.Local().Format(time.DateTime), len(m.Files), size(m.Bytes()), found.Series, found.Samples, found.Events)
			return err
		},
	}
	b.add(cmd)
	cmd.Flags().StringVar(&scratch, "scratch", "", "empty directory with room for the backup (default a temporary one)")
	return cmd
}

func backupRestoreCmd(c *client) *cobra.Command {
	b := &bucketFlag{}
	var dir string
	cmd := &cobra.Command{
		Use: "restore [ID]", Args: cobra.MaximumNArgs(1),
		Short: "Make a data directory of a backup",
		Long: `Bring a backup (the newest without ID) into an empty data directory. The
recovery key is read from PANOPTES_RECOVERY_KEY. The directory holds the file
` + backup.QuietName + `, which says what was restored and when.

The servers of the cluster that was backed up must not be running any more.
If there were several, run "panoptes recover" on the directory before the start.`,
		Example: `  PANOPTES_RECOVERY_KEY=pnpr1-… panoptes backup restore --bucket bucket.yml --data-dir /var/lib/panoptes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			bucket, err := b.open(c)
			if err != nil {
				return err
			}
			defer bucket.Close()
			m, err := app.RestoreBackup(cmd.Context(), bucket, first(args...), dir, recoveryKey(c), newLogger(config.Log{Level: "warn"}, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Backup %s of %s (%s) is in %s now.\n", m.ID, m.Info.Node, m.Time.Local().Format(time.DateTime), dir)
			return err
		},
	}
	b.add(cmd)
	cmd.Flags().StringVar(&dir, "data-dir", "data", "empty directory")
	return cmd
}

func backupResumeCmd(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "resume", Args: cobra.NoArgs,
		Short: "Notify people again after a restore",
		Long: `A restored server evaluates and shows alerts but notifies nobody, since the world
may have gone on without it. Look at its alerts, then let it notify: what still
fires is told at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := c.do(cmd.Context(), request{method: http.MethodDelete, path: "/v1/settings/notifications"}, nil)
			var failed *apiError
			if errors.As(err, &failed) && failed.Status == http.StatusNotFound {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "People are notified already.")
				return err
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "People are notified again.")
			return err
		},
	}
}
