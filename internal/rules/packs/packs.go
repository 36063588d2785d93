// Package packs holds the rule packs that come with the program: rule files in
// Prometheus' format, each alert with what to do about it, in English and
// Chinese.
package packs

import (
	"embed"
	"fmt"
	"strings"

	"panoptes/internal/model"
)

//go:embed *.yml
var files embed.FS

// Names lists the packs.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // it is part of the program
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".yml"))
	}
	return out
}

// Read returns a pack as the file that it is; model.ErrNotFound when there is
// none of that name.
func Read(name string) ([]byte, error) {
	b, err := files.ReadFile(name + ".yml")
	if err != nil {
		return nil, fmt.Errorf("rule pack %q: %w; there are %s", name, model.ErrNotFound, strings.Join(Names(), ", "))
	}
	return b, nil
}

// About returns the first sentence of a pack.
func About(name string) string {
	b, err := Read(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(strings.TrimPrefix(line, "#"))
}
