//go:build tools

// Package thanos pins the Thanos whose binaries the tests of growing run. It
// is built with -tags slicelabels and lives in a module of its own, so that the
// main one stays free of it.
package thanos

import _ "github.com/thanos-io/thanos/cmd/thanos"
