#!/bin/sh
# Write constraints/*.txt: every package with its version and hashes, and no address of an index.
# all.txt is what a developer and the tests use; the others are what each image holds, same versions.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-uv}
compile() { "$UV" pip compile pyproject.toml --generate-hashes --no-annotate --no-header --python-version 3.11 -q "$@"; }
compile --all-extras -o constraints/all.txt
for extra in operator optimizer runtime; do
  compile --extra "$extra" -c constraints/all.txt -o "constraints/$extra.txt"
done
