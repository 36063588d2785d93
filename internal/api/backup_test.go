package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
)

// memBackups has made one backup.
type memBackups struct{}

func (memBackups) Make(_ context.Context, actor string) (api.BackupMade, error) {
	return api.BackupMade{ID: "01J", Files: 3, Bytes: 100, Uploaded: 10, RecoveryKey: "for " + actor}, nil
}

func (memBackups) Status(context.Context) (api.BackupStatus, error) {
	return api.BackupStatus{Configured: true, Backups: []api.BackupInfo{{ID: "01J", Time: time.Unix(1, 0), Node: "n1", Files: 3, Bytes: 100}}}, nil
}

func TestBackupIsMadeAndListed(t *testing.T) {
	b := setUp(t)
	var made api.BackupMade
	b.want(201, &made, b.call("admin", "POST", "/v1/backup", nil))
	require.Equal(t, "01J", made.ID)
	require.Contains(t, made.RecoveryKey, "for ")
	var st api.BackupStatus
	b.want(200, &st, b.call("admin", "GET", "/v1/backup", nil))
	require.Len(t, st.Backups, 1)
}
