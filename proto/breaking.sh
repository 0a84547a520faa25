#!/usr/bin/env bash
# Compares the proto tree with an earlier one, at FILE level: the commit in BASE, else the main branch, else (on main itself) the commit before.
# What is vendored is the same in both, so that a newer version of it is no change of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${BASE:-}
if [ -z "$base" ]; then
  for candidate in origin/main main HEAD^; do
    commit=$(git rev-parse -q --verify "$candidate^{commit}" || true)
    if [ -n "$commit" ] && [ "$commit" != "$(git rev-parse HEAD)" ]; then base=$commit && break; fi
  done
fi
if [ -z "$base" ] || ! git cat-file -e "$base:buf.yaml" 2>/dev/null; then
  echo "There is no earlier proto tree to compare with."
  exit 0
fi
earlier=$(mktemp -d)
trap 'rm -rf "$earlier"' EXIT
git archive "$base" proto | tar -x -C "$earlier"
cp buf.yaml "$earlier/"
rm -rf "$earlier/proto/buf"
cp -r proto/buf "$earlier/proto/"
buf breaking --against "$earlier"
