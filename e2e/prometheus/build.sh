#!/usr/bin/env bash
# Builds Prometheus and promtool, pinned by go.mod, into target/prometheus/<hash>/, copies the CRDs of prometheus-operator there, which
# crds/go.mod pins, and points target/prometheus/bin at it. A second call is a no-op. Service discoveries are left out: the suites name their
# targets. The many packages take some minutes.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"
[ $# -eq 0 ] || die "takes no arguments"

kinds=(podmonitors prometheusrules servicemonitors)
results=(prometheus promtool "${kinds[@]/%/.yaml}")
begin Prometheus "$here"/{,crds/}go.{mod,sum}
module=github.com/prometheus/prometheus
version=$(awk -v module=$module '$1 == "require" { $1 = ""; $0 = $0 } $1 == module { sub("^v", "", $2); print $2 }' go.mod)
go_build -tags remove_all_sd -gcflags=all=-dwarf=false -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
  -o "$work/" "$module/cmd/prometheus" "$module/cmd/promtool"

operator=github.com/prometheus-operator/prometheus-operator
cd "$here/crds"
go mod download "$operator" 9>&-
crds=$(go list -m -f '{{.Dir}}' "$operator" 9>&-)/example/prometheus-operator-crd
for kind in "${kinds[@]}"; do cp "$crds/monitoring.coreos.com_$kind.yaml" "$work/$kind.yaml"; done
keep Prometheus
