// Package backup brings what a server has to object storage: blocks in the
// format of Thanos, so that its tools read years of them, and backups of the
// whole server, which can be verified and restored.
package backup
