// The CRDs of prometheus-operator, pinned here: the suites apply them, and then the shipped objects of their kinds.
module policybaseline.io/e2e/prometheus/crds

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
