// policy-reference asks two other engines what NetworkPolicies mean: the matcher of cyclonus, and the engine of kube-network-policies. It
// reads worlds, one JSON document a line, and writes what each engine says about the flows of each world, again one document a line.
//
//	policy-reference judge          reads worlds, writes verdicts
//	policy-reference time           reads worlds, writes how long each engine takes for the flows of each
//	policy-reference cyclonus-cases writes the worlds of cyclonus' own test cases, without flows
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "policy-reference: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("one argument is needed: judge, time or cyclonus-cases")
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	switch args[0] {
	case "judge":
		return each(os.Stdin, out, (*engines).judge)
	case "time":
		return each(os.Stdin, out, (*engines).measure)
	case "cyclonus-cases":
		return cyclonusCases(json.NewEncoder(out))
	default:
		return fmt.Errorf("unknown argument %q: it is judge, time or cyclonus-cases", args[0])
	}
}

// engines are what a world is given to.
type engines struct {
	kubeNetworkPolicies *kubeNetworkPolicies
}

// each answers one world after the other. Each answer is written at once: who asks may wait for it.
func each[T any](from io.Reader, out *bufio.Writer, answer func(*engines, *world) (T, error)) error {
	kube, err := newKubeNetworkPolicies()
	if err != nil {
		return err
	}
	all := &engines{kubeNetworkPolicies: kube}
	in := json.NewDecoder(bufio.NewReaderSize(from, 1<<20))
	for number := 0; ; number++ {
		var text worldText
		if err := in.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("world %d: %w", number, err)
		}
		read, err := text.read()
		if err != nil {
			return fmt.Errorf("world %d: %w", number, err)
		}
		found, err := answer(all, read)
		if err != nil {
			return fmt.Errorf("world %d: %w", number, err)
		}
		if err := json.NewEncoder(out).Encode(found); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// verdicts are what the engines say about the flows of a world.
type verdicts struct {
	Cyclonus            ways `json:"cyclonus"`
	KubeNetworkPolicies ways `json:"kubeNetworkPolicies"`
}

// ways has one character for each flow, in their order: + is allowed, - is denied.
type ways struct {
	Egress  string `json:"egress"`
	Ingress string `json:"ingress"`
	// Whether the engine lets the flow through when it is asked once for both directions.
	Both string `json:"both"`
}

func (e *engines) judge(w *world) (*verdicts, error) {
	found := &verdicts{Cyclonus: askCyclonus(w)}
	var err error
	found.KubeNetworkPolicies, err = e.kubeNetworkPolicies.ask(w)
	return found, err
}

// times are how long the engines take to judge all flows of a world, each in both directions.
type times struct {
	Cyclonus            timing `json:"cyclonus"`
	KubeNetworkPolicies timing `json:"kubeNetworkPolicies"`
}

// timing is what one engine needs.
type timing struct {
	Nanoseconds int64 `json:"nanoseconds"`
	Allowed     int   `json:"allowed"`
}

func (e *engines) measure(w *world) (*times, error) {
	found := &times{Cyclonus: timeCyclonus(w)}
	var err error
	found.KubeNetworkPolicies, err = e.kubeNetworkPolicies.time(w)
	return found, err
}

// marks writes one character for each flow.
func marks(w *world, allows func(flow) bool) string {
	text := make([]byte, len(w.flows))
	for at, one := range w.flows {
		text[at] = '-'
		if allows(one) {
			text[at] = '+'
		}
	}
	return string(text)
}
