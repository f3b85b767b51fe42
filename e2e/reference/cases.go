package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/mattfenwick/cyclonus/pkg/generator"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The cluster in which cyclonus tries its cases, by default: each of these namespaces has each of these pods, and each pod serves each of
// these ports over each protocol, under a name such as serve-80-tcp.
var (
	caseNamespaces = []string{"x", "y", "z"}
	casePods       = []string{"a", "b", "c"}
	casePorts      = []int32{80, 81}
	caseProtocols  = map[string]v1.Protocol{"tcp": v1.ProtocolTCP, "udp": v1.ProtocolUDP, "sctp": v1.ProtocolSCTP}
)

// caseWorld is the state of that cluster.
type caseWorld struct {
	namespaces map[string]map[string]string
	pods       map[[2]string]map[string]string
	policies   map[[2]string]*networkingv1.NetworkPolicy
	// An address by the number of the pod.
	address func(int) string
}

// cyclonusCases writes the world after each step of each test case of cyclonus: with and without its policy for DNS, over both families.
func cyclonusCases(to *json.Encoder) error {
	families := []func(int) string{
		func(pod int) string { return fmt.Sprintf("192.168.%d.%d", pod%3, 20+pod) },
		func(pod int) string { return fmt.Sprintf("fd00:%d::%d", 1+pod%3, 20+pod) },
	}
	for _, address := range families {
		for _, allowDNS := range []bool{false, true} {
			// The pod whose address its policies name is z/c, the last one.
			last := address(len(caseNamespaces)*len(casePods) - 1)
			cases := generator.NewTestCaseGenerator(allowDNS, last, caseNamespaces, nil, nil).GenerateAllTestCases()
			for number, one := range cases {
				if err := writeCase(to, fmt.Sprintf("%d: %s", number, one.Description), one, address); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func writeCase(to *json.Encoder, name string, one *generator.TestCase, address func(int) string) error {
	state := &caseWorld{
		namespaces: map[string]map[string]string{},
		pods:       map[[2]string]map[string]string{},
		policies:   map[[2]string]*networkingv1.NetworkPolicy{},
		address:    address,
	}
	for _, namespace := range caseNamespaces {
		state.namespaces[namespace] = map[string]string{"ns": namespace}
		for _, pod := range casePods {
			state.pods[[2]string{namespace, pod}] = map[string]string{"pod": pod}
		}
	}
	for number, step := range one.Steps {
		for _, action := range step.Actions {
			if err := state.apply(action); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		objects, err := state.objects()
		if err != nil {
			return err
		}
		if err := to.Encode(worldText{Name: fmt.Sprintf("%s, step %d", name, number), Objects: objects}); err != nil {
			return err
		}
	}
	return nil
}

func (c *caseWorld) apply(action *generator.Action) error {
	switch {
	case action.CreatePolicy != nil:
		policy := action.CreatePolicy.Policy
		c.policies[[2]string{policy.Namespace, policy.Name}] = policy
	case action.UpdatePolicy != nil:
		policy := action.UpdatePolicy.Policy
		c.policies[[2]string{policy.Namespace, policy.Name}] = policy
	case action.DeletePolicy != nil:
		delete(c.policies, [2]string{action.DeletePolicy.Namespace, action.DeletePolicy.Name})
	case action.CreateNamespace != nil:
		c.namespaces[action.CreateNamespace.Namespace] = action.CreateNamespace.Labels
	case action.SetNamespaceLabels != nil:
		c.namespaces[action.SetNamespaceLabels.Namespace] = action.SetNamespaceLabels.Labels
	case action.DeleteNamespace != nil:
		gone := action.DeleteNamespace.Namespace
		delete(c.namespaces, gone)
		maps.DeleteFunc(c.pods, func(name [2]string, _ map[string]string) bool { return name[0] == gone })
		maps.DeleteFunc(c.policies, func(name [2]string, _ *networkingv1.NetworkPolicy) bool { return name[0] == gone })
	case action.CreatePod != nil:
		c.pods[[2]string{action.CreatePod.Namespace, action.CreatePod.Pod}] = action.CreatePod.Labels
	case action.SetPodLabels != nil:
		c.pods[[2]string{action.SetPodLabels.Namespace, action.SetPodLabels.Pod}] = action.SetPodLabels.Labels
	case action.DeletePod != nil:
		delete(c.pods, [2]string{action.DeletePod.Namespace, action.DeletePod.Pod})
	default:
		return fmt.Errorf("an action that is not known: %+v", action)
	}
	return nil
}

func (c *caseWorld) objects() ([]json.RawMessage, error) {
	var all []any
	for _, name := range slices.Sorted(maps.Keys(c.namespaces)) {
		labels := maps.Clone(c.namespaces[name])
		labels[v1.LabelMetadataName] = name
		all = append(all, &v1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		})
	}
	for number, name := range slices.SortedFunc(maps.Keys(c.pods), compare) {
		all = append(all, c.pod(number, name))
	}
	for _, name := range slices.SortedFunc(maps.Keys(c.policies), compare) {
		policy := *c.policies[name]
		policy.TypeMeta = metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}
		all = append(all, &policy)
	}
	objects := make([]json.RawMessage, 0, len(all))
	for _, object := range all {
		text, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		objects = append(objects, text)
	}
	return objects, nil
}

func (c *caseWorld) pod(number int, name [2]string) *v1.Pod {
	var ports []v1.ContainerPort
	for _, text := range slices.Sorted(maps.Keys(caseProtocols)) {
		for _, port := range casePorts {
			ports = append(ports, v1.ContainerPort{
				Name:          fmt.Sprintf("serve-%d-%s", port, text),
				ContainerPort: port,
				Protocol:      caseProtocols[text],
			})
		}
	}
	address := c.address(number)
	return &v1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: name[0], Name: name[1], Labels: c.pods[name]},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "serve", Ports: ports}}},
		Status:     v1.PodStatus{Phase: v1.PodRunning, PodIP: address, PodIPs: []v1.PodIP{{IP: address}}},
	}
}

func compare(one, other [2]string) int {
	return slices.Compare(one[:], other[:])
}
