#!/usr/bin/env bash
# Builds kubeconform and kube-score, which check our manifests, pinned by go.mod, into target/validators/<hash>/, copies the CRDs of
# prometheus-operator there, which ../prometheus/crds/go.mod pins, and points target/validators/bin at it. A second call is a no-op.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.bash"
[ $# -eq 0 ] || die "takes no arguments"

# The folder comes last: if it is there, everything is.
results=(kubeconform kube-score crds)
begin validators "$here"/{,../prometheus/crds/}go.{mod,sum}
go_build -gcflags=all=-dwarf=false -ldflags '-s -w' -o "$work/" github.com/yannh/kubeconform/cmd/kubeconform github.com/zegl/kube-score/cmd/kube-score

mkdir "$work/crds"
operator=github.com/prometheus-operator/prometheus-operator
cd "$here/../prometheus/crds"
go mod download "$operator" 9>&-
crds=$(go list -m -f '{{.Dir}}' "$operator" 9>&-)/example/prometheus-operator-crd
for kind in podmonitors prometheusrules servicemonitors; do cp "$crds/monitoring.coreos.com_$kind.yaml" "$work/crds/"; done
chmod -R u+w "$work/crds"
keep validators
