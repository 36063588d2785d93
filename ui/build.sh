#!/usr/bin/env bash
# Builds the pages into ui/dist. Skipped when nothing they are made of has changed.
set -euo pipefail
cd "$(dirname "$0")"
command -v node >/dev/null 2>&1 || { echo "Node.js is not installed: the pages need version 20.19 or newer" >&2; exit 1; }
node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' ||
	{ echo "Node.js $(node --version) is too old: the pages need version 20.19 or newer" >&2; exit 1; }
sum=$( (find src public tools index.html locales -type f -print0 2>/dev/null | sort -z | xargs -0 sha256sum; sha256sum package-lock.json package.json vite.config.ts tsconfig*.json) | sha256sum | cut -d' ' -f1)
if [ -f dist/index.html ] && [ "$(cat dist/.source 2>/dev/null)" = "$sum" ]; then
	echo "pages are up to date"
	exit 0
fi
# Marked by the lock's hash, so that a changed lock is installed anew.
lock=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat node_modules/.lock 2>/dev/null)" != "$lock" ]; then
	npm ci --ignore-scripts
	echo "$lock" >node_modules/.lock
fi
npm run build
echo "$sum" >dist/.source
touch dist/.gitkeep
