package main

import (
	"encoding/json"
	"fmt"
	"net"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
)

// worldText is a world as it is written.
type worldText struct {
	// What the world is about, for the person who reads a failure.
	Name string `json:"name,omitempty"`
	// Namespaces, Pods and NetworkPolicies, as kubectl prints them.
	Objects []json.RawMessage `json:"objects"`
	// AdminNetworkPolicies and at most one BaselineAdminNetworkPolicy, of policy.networking.k8s.io/v1alpha1. Only kube-network-policies
	// applies them.
	AdminPolicies []json.RawMessage `json:"adminPolicies,omitempty"`
	// The ends of flows.
	Parties []partyText `json:"parties,omitempty"`
	// Protocol and number.
	Ports []portText `json:"ports,omitempty"`
	// Each flow is three numbers: of its source and of its destination in parties, and of its port in ports.
	Flows [][3]int `json:"flows,omitempty"`
}

// partyText is a pod "namespace/name" with one of its addresses, or an address that is no pod's.
type partyText struct {
	Pod     string `json:"pod,omitempty"`
	Address string `json:"address"`
}

type portText struct {
	Protocol v1.Protocol `json:"protocol"`
	Number   int         `json:"number"`
}

// world is what the engines read.
type world struct {
	namespaces     []*v1.Namespace
	pods           []*v1.Pod
	policies       []*networkingv1.NetworkPolicy
	adminPolicies  []*npav1alpha1.AdminNetworkPolicy
	adminBaselines []*npav1alpha1.BaselineAdminNetworkPolicy
	flows          []flow
}

type flow struct {
	from, to party
	protocol v1.Protocol
	port     int
}

type party struct {
	// nil: no pod has the address.
	pod       *v1.Pod
	namespace *v1.Namespace
	address   string
	ip        net.IP
}

// read checks a world, and adds the defaults that an API server adds.
func (t *worldText) read() (*world, error) {
	w := &world{}
	namespaces, pods := map[string]*v1.Namespace{}, map[string]*v1.Pod{}
	for _, object := range t.Objects {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(object, &head); err != nil {
			return nil, err
		}
		switch head.Kind {
		case "Namespace":
			one := &v1.Namespace{}
			if err := json.Unmarshal(object, one); err != nil {
				return nil, err
			}
			namespaces[one.Name] = one
			w.namespaces = append(w.namespaces, one)
		case "Pod":
			one := &v1.Pod{}
			if err := json.Unmarshal(object, one); err != nil {
				return nil, err
			}
			defaultPod(one)
			pods[one.Namespace+"/"+one.Name] = one
			w.pods = append(w.pods, one)
		case "NetworkPolicy":
			one := &networkingv1.NetworkPolicy{}
			if err := json.Unmarshal(object, one); err != nil {
				return nil, err
			}
			defaultPolicy(one)
			w.policies = append(w.policies, one)
		default:
			return nil, fmt.Errorf("there is an object of the kind %q", head.Kind)
		}
	}
	if err := t.readAdminPolicies(w); err != nil {
		return nil, err
	}
	return w, t.readFlows(w, namespaces, pods)
}

func (t *worldText) readAdminPolicies(w *world) error {
	for _, object := range t.AdminPolicies {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(object, &head); err != nil {
			return err
		}
		switch head.Kind {
		case "AdminNetworkPolicy":
			one := &npav1alpha1.AdminNetworkPolicy{}
			if err := json.Unmarshal(object, one); err != nil {
				return err
			}
			w.adminPolicies = append(w.adminPolicies, one)
		case "BaselineAdminNetworkPolicy":
			one := &npav1alpha1.BaselineAdminNetworkPolicy{}
			if err := json.Unmarshal(object, one); err != nil {
				return err
			}
			w.adminBaselines = append(w.adminBaselines, one)
		default:
			return fmt.Errorf("kube-network-policies applies no policy of the kind %q", head.Kind)
		}
	}
	return nil
}

func (t *worldText) readFlows(w *world, namespaces map[string]*v1.Namespace, pods map[string]*v1.Pod) error {
	parties := make([]party, 0, len(t.Parties))
	for _, text := range t.Parties {
		one := party{address: text.Address, ip: net.ParseIP(text.Address)}
		if one.ip == nil {
			return fmt.Errorf("%q is no address", text.Address)
		}
		if text.Pod != "" {
			one.pod = pods[text.Pod]
			if one.pod == nil {
				return fmt.Errorf("there is no pod %q", text.Pod)
			}
			one.namespace = namespaces[one.pod.Namespace]
			if one.namespace == nil {
				return fmt.Errorf("there is no namespace %q", one.pod.Namespace)
			}
		}
		parties = append(parties, one)
	}
	for _, numbers := range t.Flows {
		from, to, port := numbers[0], numbers[1], numbers[2]
		if min(from, to, port) < 0 || max(from, to) >= len(parties) || port >= len(t.Ports) {
			return fmt.Errorf("the flow %v names what is not there", numbers)
		}
		of := t.Ports[port]
		w.flows = append(w.flows, flow{from: parties[from], to: parties[to], protocol: of.Protocol, port: of.Number})
	}
	return nil
}

// defaultPod does what an API server does: the protocol of a container port is TCP.
func defaultPod(pod *v1.Pod) {
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, container := range containers {
			for at := range container.Ports {
				if container.Ports[at].Protocol == "" {
					container.Ports[at].Protocol = v1.ProtocolTCP
				}
			}
		}
	}
}

// defaultPolicy does what an API server does: the protocol of a port is TCP, and a policy without types is about ingress, with egress rules
// about egress too.
func defaultPolicy(policy *networkingv1.NetworkPolicy) {
	spec := &policy.Spec
	for at := range spec.Ingress {
		defaultPorts(spec.Ingress[at].Ports)
	}
	for at := range spec.Egress {
		defaultPorts(spec.Egress[at].Ports)
	}
	if len(spec.PolicyTypes) == 0 {
		spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(spec.Egress) > 0 {
			spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func defaultPorts(ports []networkingv1.NetworkPolicyPort) {
	for at := range ports {
		if ports[at].Protocol == nil {
			tcp := v1.ProtocolTCP
			ports[at].Protocol = &tcp
		}
	}
}
