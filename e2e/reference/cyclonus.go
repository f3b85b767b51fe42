package main

import (
	"time"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	v1 "k8s.io/api/core/v1"
)

// askCyclonus asks the matcher of cyclonus.
func askCyclonus(w *world) ways {
	policy := matcher.BuildNetworkPolicies(false, w.policies)
	oneWay := func(isIngress bool) string {
		return marks(w, func(one flow) bool {
			return policy.IsIngressOrEgressAllowed(traffic(one), isIngress).IsAllowed()
		})
	}
	// As its own commands ask it.
	simplified := matcher.BuildNetworkPolicies(true, w.policies)
	both := marks(w, func(one flow) bool { return simplified.IsTrafficAllowed(traffic(one)).IsAllowed() })
	return ways{Egress: oneWay(false), Ingress: oneWay(true), Both: both}
}

// timeCyclonus measures only the judging: everything that it reads is there before.
func timeCyclonus(w *world) timing {
	policy := matcher.BuildNetworkPolicies(true, w.policies)
	all := make([]*matcher.Traffic, 0, len(w.flows))
	for _, one := range w.flows {
		all = append(all, traffic(one))
	}
	found := timing{}
	began := time.Now()
	for _, one := range all {
		if policy.IsTrafficAllowed(one).IsAllowed() {
			found.Allowed++
		}
	}
	found.Nanoseconds = time.Since(began).Nanoseconds()
	return found
}

// traffic is a flow in the form that cyclonus reads. It reads no pods, so the name of the port is looked up here.
func traffic(one flow) *matcher.Traffic {
	return &matcher.Traffic{
		Source:           peer(one.from),
		Destination:      peer(one.to),
		ResolvedPort:     one.port,
		ResolvedPortName: portName(one.to.pod, one.protocol, one.port),
		Protocol:         one.protocol,
	}
}

func peer(of party) *matcher.TrafficPeer {
	found := &matcher.TrafficPeer{IP: of.address}
	if of.pod != nil {
		found.Internal = &matcher.InternalPeer{
			PodLabels:       of.pod.Labels,
			NamespaceLabels: of.namespace.Labels,
			Namespace:       of.pod.Namespace,
		}
	}
	return found
}

// portName is the first name of a port, because cyclonus takes only one. An init container that always restarts runs beside the others.
func portName(pod *v1.Pod, protocol v1.Protocol, number int) string {
	if pod == nil {
		return ""
	}
	containers := append([]v1.Container{}, pod.Spec.Containers...)
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == v1.ContainerRestartPolicyAlways {
			containers = append(containers, container)
		}
	}
	for _, container := range containers {
		for _, port := range container.Ports {
			if port.Name != "" && port.Protocol == protocol && int(port.ContainerPort) == number {
				return port.Name
			}
		}
	}
	return ""
}
