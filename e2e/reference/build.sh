#!/usr/bin/env bash
# Builds policy-reference, which asks two other engines about NetworkPolicies, pinned by go.mod, into target/reference/<hash>/ and points
# target/reference/bin at it. A second call is a no-op.
#   build.sh [--optimized]
# --optimized: as fast as Go makes it, for measurements, and named policy-reference-optimized. Without it, packages are compiled with the
#   flags of the control plane, so that Go compiles those that both have only once
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"

name=policy-reference
# As in the control plane, these are not inlined. A measurement would blame the engine for that.
small=('-gcflags=k8s.io/client-go/...=-dwarf=false -l')
case ${1:-} in
  '') ;;
  --optimized) name=policy-reference-optimized small=() ;;
  *) die "unknown argument '$1' (there is --optimized)" ;;
esac

results=("$name")
begin "$name" "$here"/go.{mod,sum} "$here"/*.go "$here"/*.s
go_build -ldflags '-s -w' -gcflags=all=-dwarf=false ${small[@]+"${small[@]}"} -o "$work/$name" .
keep "$name"
