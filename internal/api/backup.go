package api

import (
	"context"
	"net/http"
	"time"
)

// Backups makes copies of this server.
type Backups interface {
	Make(ctx context.Context, actor string) (BackupMade, error)
	Status(ctx context.Context) (BackupStatus, error)
}

// BackupMade tells of a new backup.
type BackupMade struct {
	ID       string `json:"id"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"`
	Uploaded int64  `json:"uploaded"` // bytes that the bucket did not have
	// RecoveryKey is there once, with the first backup: it is kept nowhere.
	RecoveryKey string `json:"recovery_key,omitempty"`
}

// BackupStatus says how this server's copies are.
type BackupStatus struct {
	Configured bool          `json:"configured"`
	Quiet      string        `json:"quiet,omitempty"` // why nobody is notified since a restore
	Upload     *UploadStatus `json:"upload,omitempty"`
	Backups    []BackupInfo  `json:"backups"` // in the bucket, newest first
	Error      string        `json:"error,omitempty"`
}

// UploadStatus says how far blocks have come into the bucket.
type UploadStatus struct {
	Pending     int        `json:"pending"`
	Uploaded    int        `json:"uploaded"`
	LastSuccess *time.Time `json:"last_success,omitempty"`
	Error       string     `json:"error,omitempty"`
}

// BackupInfo is one backup in the bucket.
type BackupInfo struct {
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	Node  string    `json:"node"`
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
}

func (a *API) backupRoutes() []route {
	return []route{
		{pattern: "GET /v1/backup", need: admin, handle: a.backupStatus, doc: "The backups of this server, and the upload of its blocks.", answer: BackupStatus{}},
		{pattern: "POST /v1/backup", need: admin, handle: a.makeBackup, doc: "Makes a backup of this server into its bucket; the first answer holds the recovery key.", answer: BackupMade{}, status: http.StatusCreated},
	}
}

func (a *API) backupStatus(r *http.Request) (any, error) {
	if a.deps.Backups == nil {
		return nil, missing("backups")
	}
	return a.deps.Backups.Status(r.Context())
}

func (a *API) makeBackup(r *http.Request) (any, error) {
	if a.deps.Backups == nil {
		return nil, missing("backups")
	}
	return a.deps.Backups.Make(r.Context(), who(r).Actor())
}
