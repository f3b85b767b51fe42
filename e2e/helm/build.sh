#!/usr/bin/env bash
# Builds Helm, with which the suite of the chart installs it, pinned by go.mod, into target/helm/<hash>/ and points target/helm/bin at it. A
# second call is a no-op.
#   build.sh [--print]
# --print: the path of the binary is the only line on stdout
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$here/../.." && pwd)/target/helm

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }

print=''
for arg in "$@"; do
  case $arg in
    --print) print=1 ;;
    *) die "unknown argument '$arg' (there is --print)" ;;
  esac
done
point() {
  [ "$(readlink "$out/bin" 2>/dev/null)" = "$hash" ] || ln -sfn "$hash" "$out/bin"
  if [ "$print" ]; then printf '%s\n' "$out/bin/helm"; fi
  exit 0
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$(cat "$here"/go.mod "$here"/go.sum "$here/build.sh" | sha256 | cut -c1-16)
dir=$out/$hash
# The binary appears by one rename: if it is there, it is whole.
[ ! -x "$dir/helm" ] || point

needed=$(awk '$1 == "go" { print $2 }' "$here/go.mod")
command -v go >/dev/null || die "Helm is built from source and needs Go $needed or newer (https://go.dev/dl), which is not in PATH"
export GOWORK=off GOFLAGS="-mod=readonly ${GOFLAGS:-}" CGO_ENABLED=0
have=$(cd "$here" && go env GOVERSION)
have=${have#go}
[ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n1)" = "$needed" ] || die "Helm needs Go $needed or newer, and this is Go $have"

mkdir -p "$out"
if command -v flock >/dev/null; then
  exec 9>"$out/.lock"
  flock 9                                     # a second build at the same time waits, then finds the result
fi
[ ! -x "$dir/helm" ] || point
rm -rf "$out"/.build.*                         # of a build that was killed
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

version=$(sed -n 's|.*helm.sh/helm/v4 \(v[^ ]*\).*|\1|p' "$here/go.mod")
say "helm: building $version from source"
start=$SECONDS
cd "$here"
go build -trimpath -buildvcs=false -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" -gcflags=all=-dwarf=false \
  -o "$work/helm" helm.sh/helm/v4/cmd/helm >"$work/log" 2>&1 9>&- || { cat "$work/log" >&2; die "go build failed"; }
say "helm: built in $((SECONDS - start)) s"

mkdir -p "$dir"
mv "$work/helm" "$dir/helm"
for old in "$out"/*/; do
  old=${old%/}
  if [ "$old" != "$dir" ] && [ ! -L "$old" ]; then rm -rf "$old"; fi
done
point
