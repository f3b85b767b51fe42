package main

import (
	"context"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// byStatus judges as Flux does without expressions: by kstatus.
func byStatus(object *unstructured.Unstructured) (answer, error) {
	found, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	return answer{Status: found.Status.String(), Message: found.Message}, nil
}

// byExpressions judges as Flux does a kind that spec.healthCheckExprs of a Kustomization names.
func byExpressions(expressions *kustomize.HealthCheckExpressions, object *unstructured.Unstructured) (answer, error) {
	evaluator, err := cel.NewStatusEvaluator(expressions)
	if err != nil {
		return answer{}, err
	}
	found, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return answer{}, err
	}
	return answer{Status: found.Status.String(), Message: found.Message}, nil
}
