// Command pack prepares the built pages for embedding: it zips every file,
// writes manifest.json (path, hash, sizes) and fails when a budget is broken.
//
//	go run ./ui/tools/pack ui/dist
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pack DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(dir string, out io.Writer) error {
	m, err := Pack(dir)
	if err != nil {
		return err
	}
	report, err := Budgets(dir, m)
	for _, line := range report {
		fmt.Fprintln(out, line)
	}
	return err
}
