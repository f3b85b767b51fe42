#!/usr/bin/env bash
# Builds the control plane that the end-to-end suites run against, pinned by go.mod, into target/controlplane/<hash>/
# and points target/controlplane/bin at it. A second call is a no-op. KUBEBUILDER_ASSETS is used instead when it is set.
#   build.sh [--print-dir]    --print-dir: the directory of the binaries is the only line on stdout
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$here/../.." && pwd)/target/controlplane
names=(etcd kube-apiserver kube-controller-manager kubectl)

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }
finish() { if [ "${print_dir:-}" ]; then printf '%s\n' "$1"; fi; exit 0; }

print_dir=
for arg in "$@"; do
  case $arg in
    --print-dir) print_dir=1 ;;
    *) die "unknown argument '$arg' (there is only --print-dir)" ;;
  esac
done

if [ "${KUBEBUILDER_ASSETS:-}" ]; then
  missing=()
  for name in "${names[@]}"; do [ -x "$KUBEBUILDER_ASSETS/$name" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks: ${missing[*]} (envtest bundles come without kube-controller-manager, which these suites need)"
  finish "$KUBEBUILDER_ASSETS"
fi

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256 | cut -c1-16)
dir=$out/$hash
# The directory appears by one rename, with all four binaries in it: if it is there, it is whole.
point() { [ "$(readlink "$out/bin" 2>/dev/null)" = "$hash" ] || ln -sfn "$hash" "$out/bin"; }
if [ -d "$dir" ]; then point; finish "$out/bin"; fi

needed=$(awk '$1 == "go" { print $2 }' "$here/go.mod")
command -v go >/dev/null || die "the control plane is built from source and needs Go $needed or newer (https://go.dev/dl), which is not in PATH; or point KUBEBUILDER_ASSETS at prebuilt binaries"
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
have=$(cd "$here" && go env GOVERSION)
have=${have#go}
[ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n1)" = "$needed" ] || die "the control plane needs Go $needed or newer, and this is Go $have"

mkdir -p "$out"
if command -v flock >/dev/null; then
  exec 9>"$out/.lock"
  flock 9                                     # a second build at the same time waits, then finds the result
  if [ -d "$dir" ]; then point; finish "$out/bin"; fi
fi
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

version_of() { cd "$here" && go list -m -f '{{.Version}}' "$1"; }
k8s=$(version_of k8s.io/kubernetes)
etcd=$(version_of go.etcd.io/etcd/server/v3)
minor=${k8s#v1.}; minor=${minor%%.*}
v=k8s.io/component-base/version
ldflags="-s -w -X $v.gitVersion=$k8s -X $v.gitMajor=1 -X $v.gitMinor=$minor"

step=0
build() { # NAME PACKAGE VERSION HOW_LONG
  step=$((step + 1))
  printf 'building %s %s (%d of %d, %s when cold) ... ' "$1" "${3#v}" "$step" "${#names[@]}" "$4" >&2
  local start=$SECONDS
  if ! (cd "$here" && go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$work/$1" "$2") >"$work.log" 2>&1; then
    say failed; cat "$work.log" >&2; rm -f "$work.log"; exit 1
  fi
  rm -f "$work.log"
  say "$((SECONDS - start)) s"
}
build etcd go.etcd.io/etcd/server/v3 "$etcd" "half a minute"
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver "$k8s" "two minutes"
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager "$k8s" "a minute"
build kubectl k8s.io/kubernetes/cmd/kubectl "$k8s" "half a minute"

chmod 755 "$work"
mv "$work" "$dir"
point
# Results of older pins are large; the lock says that nobody is building them.
for old in "$out"/*/; do
  old=${old%/}
  if [ "$old" != "$dir" ] && [ ! -L "$old" ]; then rm -rf "$old"; fi
done
finish "$out/bin"
