#!/usr/bin/env bash
# Builds krew and the validator of its index, which judge the manifest of the plugin, pinned by go.mod, into target/krew/<hash>/ and points
# target/krew/bin at it. A second call is a no-op.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"
[ $# -eq 0 ] || die "takes no arguments"

# kubectl finds krew under the first name.
results=(kubectl-krew validate-krew-manifest)
begin krew "$here"/go.{mod,sum}
go_build -ldflags '-s -w' -gcflags=all=-dwarf=false -o "$work/kubectl-krew" sigs.k8s.io/krew/cmd/krew
go_build -ldflags '-s -w' -gcflags=all=-dwarf=false -o "$work/validate-krew-manifest" sigs.k8s.io/krew/cmd/validate-krew-manifest
keep krew
