#!/usr/bin/env bash
# Builds the control plane that the end-to-end suites run against, pinned by go.mod, into target/controlplane/<hash>/
# and points target/controlplane/bin at it. A second call is a no-op. KUBEBUILDER_ASSETS is used instead when it is set.
#   build.sh [--kubernetes=MINOR] [--demo] [--print-dir]
# --kubernetes=1.35: the version that versions/1.35/go.mod pins, into target/controlplane-1.35
# --demo: take the kubectl of this machine if it is at most one minor version away, instead of building one
# --print-dir: the directory of the binaries is the only line on stdout
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"

finish() { if [ "${print_dir:-}" ]; then printf '%s\n' "$1"; fi; exit 0; }

print_dir='' demo=''
for arg in "$@"; do
  case $arg in
    --kubernetes=*)
      mod=$here/versions/${arg#*=} out=$out-${arg#*=}
      [ -f "$mod/go.mod" ] || die "there is no Kubernetes ${arg#*=} in $here/versions: $(cd "$here/versions" && echo *)" ;;
    --demo) demo=1 ;;
    --print-dir) print_dir=1 ;;
    *) die "unknown argument '$arg' (there are --kubernetes=MINOR, --demo and --print-dir)" ;;
  esac
done

names=(etcd kube-apiserver kube-controller-manager kubectl)
package() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

if [ "${KUBEBUILDER_ASSETS:-}" ]; then
  missing=()
  for name in "${names[@]}"; do [ -x "$KUBEBUILDER_ASSETS/$name" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks: ${missing[*]} (envtest bundles come without kube-controller-manager, which these suites need)"
  finish "$KUBEBUILDER_ASSETS"
fi

k8s=$(sed -n 's|^[[:space:]]*k8s.io/kubernetes \(v[^ ]*\).*|\1|p' "$mod/go.mod")
minor=${k8s#v1.}; minor=${minor%%.*}

# The suites compare what kubectl prints, so theirs is the pinned one. The demo only calls it.
kubectl=
if [ "$demo" ] && kubectl=$(command -v kubectl); then
  theirs=$("$kubectl" version --client 2>/dev/null | sed -n 's/^Client Version: v1\.\([0-9]*\)\..*/\1/p')
  if [ "$theirs" ] && [ "$theirs" -ge $((minor - 1)) ] && [ "$theirs" -le $((minor + 1)) ]; then
    names=(etcd kube-apiserver kube-controller-manager)
  else
    kubectl=
  fi
fi

hash "$mod"/go.{mod,sum}
# Each binary appears by one rename: if it is there, it is whole.
missing() { for name in "${names[@]}"; do [ -x "$dir/$name" ] || printf '%s\n' "$name"; done; }
point() {
  point_bin
  [ "$kubectl" ] && [ ! -x "$dir/kubectl" ] || finish "$out/bin"
  mkdir -p "$out/demo"
  for name in "${names[@]}"; do ln -sfn "../bin/$name" "$out/demo/$name"; done
  # A program that goes by its own path finds it.
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$kubectl" > "$out/demo/.kubectl.$$"
  chmod 755 "$out/demo/.kubectl.$$"
  mv "$out/demo/.kubectl.$$" "$out/demo/kubectl"
  finish "$out/demo"
}
[ "$(missing)" ] || point

need_go "the control plane" "or point KUBEBUILDER_ASSETS at prebuilt binaries"
export GOFLAGS=-mod=readonly
lock
todo=()
while read -r name; do [ ! "$name" ] || todo+=("$name"); done <<< "$(missing)"
[ ${#todo[@]} -gt 0 ] || point
make_work
log=$work.log
go=
trap '[ ! "$go" ] || kill "$go" 2>/dev/null || true; rm -rf "$work" "$log"' EXIT

packages=()
for name in "${todo[@]}"; do packages+=("$(package "$name")"); done
say "control plane: building ${todo[*]} $k8s from source"
cd "$mod"
start=$SECONDS
# Also fetches the modules.
total=$(go list -deps "${packages[@]}" 2>"$log" 9>&- | wc -l) || { cat "$log" >&2; die "go list failed"; }

v=k8s.io/component-base/version
ldflags="-s -w -X $v.gitVersion=$k8s -X $v.gitMajor=1 -X $v.gitMinor=$minor"
# Nobody debugs these, so no DWARF is made that the linker drops again. The packages below are not inlined either, which saves a quarter to
# a half of their compile time, and makes neither the start nor the requests of the API server measurably slower. etcd, the server library
# and the codecs are built as in a release.
plain=-dwarf=false
small='-dwarf=false -l'
gcflags=("-gcflags=all=$plain")
for pattern in k8s.io/kubernetes/... k8s.io/client-go/... k8s.io/kubectl/... sigs.k8s.io/kustomize/...; do
  gcflags+=("-gcflags=$pattern=$small")
done

# All in one go: what several need is compiled once, and one is linked while another one is compiled.
go build -v -trimpath -buildvcs=false -ldflags "$ldflags" "${gcflags[@]}" -o "$work/" "${packages[@]}" 9>&- >"$log" 2>&1 &
go=$!
progress() { # go names each package when it begins to compile it; what an earlier build left in its cache is not named
  printf 'control plane: %d of %d packages compiled, %d s' "$(grep -c -v ' ' "$log" || true)" "$total" "$((SECONDS - start))"
}
shown=$SECONDS
while kill -0 "$go" 2>/dev/null; do
  sleep 1
  if [ -t 2 ]; then
    printf '\r%s ' "$(progress)" >&2
  elif [ $((SECONDS - shown)) -ge "${PROGRESS_SECONDS:-30}" ]; then
    say "$(progress)"
    shown=$SECONDS
  fi
done
[ ! -t 2 ] || say ""
if ! wait "$go"; then
  grep ' ' "$log" >&2
  die "go build failed"
fi
go=
say "control plane: built in $((SECONDS - start)) s"

# go names a binary after the last element of its package's path.
[ ! -e "$work/server" ] || mv "$work/server" "$work/etcd"
mkdir -p "$dir"
for name in "${todo[@]}"; do mv "$work/$name" "$dir/$name"; done
forget_others "$out/demo"
point
