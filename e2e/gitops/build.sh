#!/usr/bin/env bash
# Builds policy-gitops, which judges objects as Argo CD and Flux do, pinned by go.mod, into target/gitops/<hash>/, puts the CRDs of Argo CD and
# Flux beside it, pinned by crds.txt, and points target/gitops/bin at it. A second call is a no-op.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$here/../.." && pwd)/target/gitops
name=policy-gitops

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }
[ $# -eq 0 ] || die "unknown argument '$1'"

point() {
  [ "$(readlink "$out/bin" 2>/dev/null)" = "$hash" ] || ln -sfn "$hash" "$out/bin"
  exit 0
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$(cat "$here"/go.mod "$here"/go.sum "$here"/*.go "$here/crds.txt" "$here/build.sh" | sha256 | cut -c1-16)
dir=$out/$hash
# The directory appears by one rename: if it is there, it is whole.
[ ! -x "$dir/$name" ] || point

needed=$(awk '$1 == "go" { print $2 }' "$here/go.mod")
command -v go >/dev/null || die "$name is built from source and needs Go $needed or newer (https://go.dev/dl), which is not in PATH"
export GOWORK=off CGO_ENABLED=0
have=$(cd "$here" && go env GOVERSION)
have=${have#go}
[ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n1)" = "$needed" ] || die "$name needs Go $needed or newer, and this is Go $have"

mkdir -p "$out"
if command -v flock >/dev/null; then
  exec 9>"$out/.lock"
  flock 9                                     # a second build at the same time waits, then finds the result
fi
[ ! -x "$dir/$name" ] || point
rm -rf "$out"/.build.*                         # of a build that was killed
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

say "$name: building it from source"
start=$SECONDS
cd "$here"
# With the flags of the control plane, so that Go compiles only once what both have.
GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w' -gcflags=all=-dwarf=false '-gcflags=k8s.io/client-go/...=-dwarf=false -l' \
  -o "$work/new/$name" . >"$work/log" 2>&1 9>&- || { cat "$work/log" >&2; die "go build failed"; }

# Go checks what it downloads against its database of checksums. Without it, the pinned checksum still decides.
mkdir "$work/new/crds" "$work/outside"
cd "$work/outside"
while read -r module version sum file; do
  case $module in ''|'#'*) continue ;; esac
  GOFLAGS= go mod download -json "$module@$version" >"$work/log" 2>&1 9>&- </dev/null || { cat "$work/log" >&2; die "cannot download $module $version"; }
  field() { sed -n "s|^[[:space:]]*\"$1\": \"\(.*\)\",*\$|\1|p" "$work/log"; }
  [ "$(field Sum)" = "$sum" ] || die "the checksum of $module $version is $(field Sum), not $sum"
  cp "$(field Dir)/$file" "$work/new/crds/"
done < "$here/crds.txt"
chmod -R u+w "$work/new/crds"
say "$name: built in $((SECONDS - start)) s"

mv "$work/new" "$dir"
for old in "$out"/*/; do
  old=${old%/}
  if [ "$old" != "$dir" ] && [ ! -L "$old" ]; then rm -rf "$old"; fi
done
point
