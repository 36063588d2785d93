package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// The budgets in bytes after gzip; 1 KB is 1000 bytes.
const (
	firstLoad   = 180_000 // page, what it loads at once, and the larger language
	laterChunk  = 60_000  // each part that a further page adds
	editorChunk = 175_000 // the PromQL editor
	wholeDist   = 900_000
)

var linked = regexp.MustCompile(`(?:src|href)="\./(assets/[^"]+)"`)

// Budgets compares the sizes with what is allowed. The report has a line for
// each budget; the error names all that are broken.
func Budgets(dir string, m Manifest) (report []string, err error) {
	page, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil {
		return nil, err
	}
	first := m["index.html"].Gzip
	early := map[string]bool{"index.html": true}
	for _, match := range linked.FindAllStringSubmatch(string(page), -1) {
		name := match[1]
		f, ok := m[name]
		if !ok {
			return nil, fmt.Errorf("index.html loads %s, which was not built", name)
		}
		if !early[name] {
			early[name] = true
			first += f.Gzip
		}
	}
	language, largest, total := 0, "", 0
	for name, f := range m {
		total += f.Gzip
		base := path.Base(name)
		switch {
		case strings.HasPrefix(base, "en-") || strings.HasPrefix(base, "zh-CN-"):
			language = max(language, f.Gzip)
		case early[name] || strings.HasPrefix(base, "promql-"):
		case largest == "" || f.Gzip > m[largest].Gzip:
			largest = name
		}
		if strings.HasPrefix(base, "promql-") {
			report, err = compare(report, err, "PromQL editor", f.Gzip, editorChunk)
		}
	}
	report, err = compare(report, err, "first load", first+language, firstLoad)
	report, err = compare(report, err, "largest later part "+largest, m[largest].Gzip, laterChunk)
	return compare(report, err, "everything", total, wholeDist)
}

func compare(report []string, sofar error, what string, got, limit int) ([]string, error) {
	report = append(report, fmt.Sprintf("%-40s %7.1f KB of %5.1f", what, float64(got)/1000, float64(limit)/1000))
	if got > limit {
		sofar = errors.Join(sofar, fmt.Errorf("%s has %d bytes zipped, the budget is %d", what, got, limit))
	}
	return report, sofar
}
