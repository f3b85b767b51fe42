#!/usr/bin/env bash
# Builds Helm, with which the suite of the chart installs it, pinned by go.mod, into target/helm/<hash>/ and points target/helm/bin at it. A
# second call is a no-op.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"
[ $# -eq 0 ] || die "takes no arguments"

results=(helm)
begin Helm "$here"/go.{mod,sum}
version=$(sed -n 's|.*helm.sh/helm/v4 \(v[^ ]*\).*|\1|p' go.mod)
go_build -gcflags=all=-dwarf=false -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" -o "$work/helm" helm.sh/helm/v4/cmd/helm
keep Helm
