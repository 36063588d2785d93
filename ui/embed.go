// Package ui holds the built pages.
package ui

import (
	"embed"
	"io/fs"
)

// A placeholder in dist keeps the program buildable without Node.
//
//go:embed all:dist
var dist embed.FS

// Files returns the built pages with index.html at the root; without a build
// there is only a placeholder.
func Files() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the path is constant and valid
	}
	return sub
}
