#!/usr/bin/env bash
# Builds Prometheus and promtool, pinned by go.mod, into target/prometheus/<hash>/, copies the CRDs of prometheus-operator there, which
# crds/go.mod pins, and points target/prometheus/bin at it. A second call is a no-op. Service discoveries are left out: the suites name their
# targets.
#   build.sh
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$here/../.." && pwd)/target/prometheus

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }
[ $# -eq 0 ] || die "takes no arguments"

names=(prometheus promtool)
kinds=(podmonitors prometheusrules servicemonitors)
built() {
  for name in "${names[@]}"; do [ -x "$dir/$name" ] || return 1; done
  for kind in "${kinds[@]}"; do [ -f "$dir/$kind.yaml" ] || return 1; done
}
point() {
  [ "$(readlink "$out/bin" 2>/dev/null)" = "$hash" ] || ln -sfn "$hash" "$out/bin"
  exit 0
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$(cat "$here"/{,crds/}go.{mod,sum} "$here/build.sh" | sha256 | cut -c1-16)
dir=$out/$hash
# Each file appears by one rename: if it is there, it is whole.
if built; then point; fi

needed=$(awk '$1 == "go" { print $2 }' "$here/go.mod")
command -v go >/dev/null || die "Prometheus is built from source and needs Go $needed or newer (https://go.dev/dl), which is not in PATH"
export GOWORK=off GOFLAGS="-mod=readonly ${GOFLAGS:-}" CGO_ENABLED=0
have=$(cd "$here" && go env GOVERSION)
have=${have#go}
[ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n1)" = "$needed" ] || die "Prometheus needs Go $needed or newer, and this is Go $have"

mkdir -p "$out"
if command -v flock >/dev/null; then
  exec 9>"$out/.lock"
  flock 9                                     # a second build at the same time waits, then finds the result
fi
if built; then point; fi
rm -rf "$out"/.build.*                         # of a build that was killed
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

say "Prometheus: building it from source (many packages: some minutes)"
start=$SECONDS
cd "$here"
module=github.com/prometheus/prometheus
version=$(awk -v module=$module '$1 == "require" { $1 = ""; $0 = $0 } $1 == module { sub("^v", "", $2); print $2 }' go.mod)
go build -trimpath -buildvcs=false -tags remove_all_sd -gcflags=all=-dwarf=false \
  -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
  -o "$work/" "$module/cmd/prometheus" "$module/cmd/promtool" >"$work/log" 2>&1 9>&- || { cat "$work/log" >&2; die "go build failed"; }
say "Prometheus: built in $((SECONDS - start)) s"

operator=github.com/prometheus-operator/prometheus-operator
cd "$here/crds"
go mod download "$operator"
crds=$(go list -m -f '{{.Dir}}' "$operator")/example/prometheus-operator-crd
for kind in "${kinds[@]}"; do cp "$crds/monitoring.coreos.com_$kind.yaml" "$work/$kind.yaml"; done

mkdir -p "$dir"
for kind in "${kinds[@]}"; do mv "$work/$kind.yaml" "$dir/$kind.yaml"; done
for name in "${names[@]}"; do mv "$work/$name" "$dir/$name"; done
for old in "$out"/*/; do
  old=${old%/}
  if [ "$old" != "$dir" ] && [ ! -L "$old" ]; then rm -rf "$old"; fi
done
point
