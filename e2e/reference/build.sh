#!/usr/bin/env bash
# Builds policy-reference, which asks two other engines about NetworkPolicies, pinned by go.mod, into target/reference/<hash>/ and points
# target/reference/bin at it. A second call is a no-op.
#   build.sh [--optimized] [--print]
# --optimized: as fast as Go makes it, for measurements, and named policy-reference-optimized. Without it, packages are compiled with the
#   flags of the control plane, so that Go compiles those that both have only once
# --print: the path of the binary is the only line on stdout
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$here/../.." && pwd)/target/reference

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }

name=policy-reference print=''
for arg in "$@"; do
  case $arg in
    --optimized) name=policy-reference-optimized ;;
    --print) print=1 ;;
    *) die "unknown argument '$arg' (there are --optimized and --print)" ;;
  esac
done
point() {
  [ "$(readlink "$out/bin" 2>/dev/null)" = "$hash" ] || ln -sfn "$hash" "$out/bin"
  if [ "$print" ]; then printf '%s\n' "$out/bin/$name"; fi
  exit 0
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$(cat "$here"/go.mod "$here"/go.sum "$here"/*.go "$here"/*.s "$here/build.sh" | sha256 | cut -c1-16)
dir=$out/$hash
# A binary appears by one rename: if it is there, it is whole.
[ ! -x "$dir/$name" ] || point

needed=$(awk '$1 == "go" { print $2 }' "$here/go.mod")
command -v go >/dev/null || die "the reference engines are built from source and need Go $needed or newer (https://go.dev/dl), which is not in PATH"
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
have=$(cd "$here" && go env GOVERSION)
have=${have#go}
[ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n1)" = "$needed" ] || die "the reference engines need Go $needed or newer, and this is Go $have"

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

gcflags=(-gcflags=all=-dwarf=false)
# As in the control plane, these are not inlined. A measurement would blame the engine for that.
[ "$name" != policy-reference ] || gcflags+=('-gcflags=k8s.io/client-go/...=-dwarf=false -l')
say "$name: building it from source"
start=$SECONDS
cd "$here"
go build -trimpath -buildvcs=false -ldflags '-s -w' "${gcflags[@]}" -o "$work/$name" . >"$work/log" 2>&1 9>&- || { cat "$work/log" >&2; die "go build failed"; }
say "$name: built in $((SECONDS - start)) s"

mkdir -p "$dir"
mv "$work/$name" "$dir/$name"
for old in "$out"/*/; do
  old=${old%/}
  if [ "$old" != "$dir" ] && [ ! -L "$old" ]; then rm -rf "$old"; fi
done
point
