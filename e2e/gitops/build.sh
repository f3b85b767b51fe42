#!/usr/bin/env bash
# Builds policy-gitops, which judges objects as Argo CD and Flux do, pinned by go.mod, into target/gitops/<hash>/, puts the CRDs of Argo CD and
# Flux beside it, pinned by crds.txt, and points target/gitops/bin at it. A second call is a no-op.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"
[ $# -eq 0 ] || die "takes no arguments"

# The folder comes last: if it is there, everything is.
results=(policy-gitops crds)
begin policy-gitops "$here"/go.{mod,sum} "$here"/*.go "$here/crds.txt"
# With the flags of the control plane, so that Go compiles only once what both have.
go_build -ldflags '-s -w' -gcflags=all=-dwarf=false '-gcflags=k8s.io/client-go/...=-dwarf=false -l' -o "$work/policy-gitops" .

# Go checks what it downloads against its database of checksums. Without it, the pinned checksum still decides.
mkdir "$work/crds" "$work/outside"
cd "$work/outside"
while read -r module version sum file; do
  case $module in ''|'#'*) continue ;; esac
  GOFLAGS= go mod download -json "$module@$version" >"$work/log" 2>&1 9>&- </dev/null || { cat "$work/log" >&2; die "cannot download $module $version"; }
  field() { sed -n "s|^[[:space:]]*\"$1\": \"\(.*\)\",*\$|\1|p" "$work/log"; }
  [ "$(field Sum)" = "$sum" ] || die "the checksum of $module $version is $(field Sum), not $sum"
  cp "$(field Dir)/$file" "$work/crds/"
done < "$here/crds.txt"
chmod -R u+w "$work/crds"
keep policy-gitops
