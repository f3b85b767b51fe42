// Policy-gitops judges objects as Argo CD and Flux do. It reads an array of questions from stdin, and writes an array of answers to stdout.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// question is an object, and what judges it: kstatus if it contains nothing else.
type question struct {
	Object *unstructured.Unstructured `json:"object"`
	// A health check for Argo CD.
	Lua string `json:"lua"`
	// An entry of spec.healthCheckExprs of a Kustomization of Flux.
	Expressions *kustomize.HealthCheckExpressions `json:"expressions"`
}

// answer is a verdict, or why there is none.
type answer struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func judge(asked question) (answer, error) {
	switch {
	case asked.Lua != "":
		return health(asked.Lua, asked.Object.Object)
	case asked.Expressions != nil:
		return byExpressions(asked.Expressions, asked.Object)
	default:
		return byStatus(asked.Object)
	}
}

func run() error {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		return err
	}
	answers := []answer{}
	for number, asked := range questions {
		if asked.Object == nil {
			return fmt.Errorf("question %d has no object", number)
		}
		verdict, err := judge(asked)
		if err != nil {
			verdict = answer{Error: err.Error()}
		}
		answers = append(answers, verdict)
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "policy-gitops:", err)
		os.Exit(1)
	}
}
