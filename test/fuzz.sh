#!/usr/bin/env bash
# Runs every fuzz target for the time given, one after another.
set -euo pipefail
time=${1:-10s}
cd "$(dirname "$0")/.."
grep -rlE '^func Fuzz' --include='*_test.go' internal | sort | while read -r file; do
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/func //' | while read -r name; do
		echo "$name ($(dirname "$file"))"
		go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$time"
	done
done
