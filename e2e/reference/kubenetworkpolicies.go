package main

import (
	"context"
	"io"
	"net"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/sirupsen/logrus"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	npaclient "sigs.k8s.io/network-policy-api/pkg/client/clientset/versioned"
	npainformers "sigs.k8s.io/network-policy-api/pkg/client/informers/externalversions"
)

// packet is the packet of kube-network-policies, field by field: that package exports neither it nor what judges it. go.mod pins the
// version, and every comparison would fail if the two differed.
type packet struct {
	id      uint32
	family  v1.IPFamily
	srcIP   net.IP
	dstIP   net.IP
	proto   v1.Protocol
	srcPort int
	dstPort int
	payload []byte
}

//go:linkname evaluatePacket sigs.k8s.io/kube-network-policies/pkg/networkpolicy.(*Controller).evaluatePacket
func evaluatePacket(c *networkpolicy.Controller, ctx context.Context, p packet) bool

// The port from which a packet comes decides nothing.
const sourcePort = 52345

// kubeNetworkPolicies is its controller, with stores that are filled here instead of by watches.
type kubeNetworkPolicies struct {
	plain, withAdmin stores
}

type stores struct {
	controller                                                *networkpolicy.Controller
	namespaces, pods, policies, adminPolicies, adminBaselines cache.Store
}

func newKubeNetworkPolicies() (*kubeNetworkPolicies, error) {
	// What it logs is for those who run it on a node.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	logrus.SetOutput(io.Discard)
	plain, err := newStores(false)
	if err != nil {
		return nil, err
	}
	withAdmin, err := newStores(true)
	return &kubeNetworkPolicies{plain: plain, withAdmin: withAdmin}, err
}

func newStores(withAdmin bool) (stores, error) {
	// Nothing is sent to it: no informer is started.
	nowhere := &rest.Config{Host: "localhost"}
	client, err := kubernetes.NewForConfig(nowhere)
	if err != nil {
		return stores{}, err
	}
	npaClient, err := npaclient.NewForConfig(nowhere)
	if err != nil {
		return stores{}, err
	}
	core, npa := informers.NewSharedInformerFactory(client, 0), npainformers.NewSharedInformerFactory(npaClient, 0)
	namespaces, pods, nodes := core.Core().V1().Namespaces(), core.Core().V1().Pods(), core.Core().V1().Nodes()
	policies := core.Networking().V1().NetworkPolicies()
	admin, baseline := npa.Policy().V1alpha1().AdminNetworkPolicies(), npa.Policy().V1alpha1().BaselineAdminNetworkPolicies()
	config := networkpolicy.Config{NodeName: "node", AdminNetworkPolicy: withAdmin, BaselineAdminNetworkPolicy: withAdmin}
	controller, err := networkpolicy.NewController(client, policies, namespaces, pods, nodes, npaClient, admin, baseline, config)
	if err != nil {
		return stores{}, err
	}
	return stores{
		controller:     controller,
		namespaces:     namespaces.Informer().GetStore(),
		pods:           pods.Informer().GetStore(),
		policies:       policies.Informer().GetStore(),
		adminPolicies:  admin.Informer().GetStore(),
		adminBaselines: baseline.Informer().GetStore(),
	}, nil
}

// of are the stores with the objects of a world.
func (k *kubeNetworkPolicies) of(w *world) (*stores, error) {
	all := &k.plain
	if len(w.adminPolicies)+len(w.adminBaselines) > 0 {
		all = &k.withAdmin
	}
	if err := replace(all.namespaces, w.namespaces); err != nil {
		return nil, err
	}
	return all, replace(all.pods, w.pods)
}

// ask asks three times: with all policies, and with what they say about each direction alone.
func (k *kubeNetworkPolicies) ask(w *world) (ways, error) {
	found := ways{}
	all, err := k.of(w)
	if err != nil {
		return found, err
	}
	for _, view := range []struct {
		text            *string
		egress, ingress bool
	}{{&found.Both, true, true}, {&found.Egress, true, false}, {&found.Ingress, false, true}} {
		if err := all.fill(w, view.egress, view.ingress); err != nil {
			return found, err
		}
		*view.text = marks(w, all.allows)
	}
	return found, nil
}

// time measures only the judging: everything that it reads is there before.
func (k *kubeNetworkPolicies) time(w *world) (timing, error) {
	found := timing{}
	all, err := k.of(w)
	if err != nil {
		return found, err
	}
	if err := all.fill(w, true, true); err != nil {
		return found, err
	}
	began := time.Now()
	for _, one := range w.flows {
		if all.allows(one) {
			found.Allowed++
		}
	}
	found.Nanoseconds = time.Since(began).Nanoseconds()
	return found, nil
}

func (s *stores) allows(one flow) bool {
	return evaluatePacket(s.controller, context.Background(), packet{
		srcIP:   one.from.ip,
		dstIP:   one.to.ip,
		proto:   one.protocol,
		srcPort: sourcePort,
		dstPort: one.port,
	})
}

// fill stores what the policies say about these directions. A policy stays even if it says nothing about them: for the precedence of
// baselines, the engine counts the policies of a pod.
func (s *stores) fill(w *world, egress, ingress bool) error {
	policies := make([]*networkingv1.NetworkPolicy, 0, len(w.policies))
	for _, policy := range w.policies {
		one := *policy
		one.Spec.PolicyTypes = nil
		for _, about := range policy.Spec.PolicyTypes {
			if about == networkingv1.PolicyTypeEgress && egress || about == networkingv1.PolicyTypeIngress && ingress {
				one.Spec.PolicyTypes = append(one.Spec.PolicyTypes, about)
			}
		}
		policies = append(policies, &one)
	}
	adminPolicies := make([]*npav1alpha1.AdminNetworkPolicy, 0, len(w.adminPolicies))
	for _, policy := range w.adminPolicies {
		one := *policy
		if !egress {
			one.Spec.Egress = nil
		}
		if !ingress {
			one.Spec.Ingress = nil
		}
		adminPolicies = append(adminPolicies, &one)
	}
	adminBaselines := make([]*npav1alpha1.BaselineAdminNetworkPolicy, 0, len(w.adminBaselines))
	for _, policy := range w.adminBaselines {
		one := *policy
		if !egress {
			one.Spec.Egress = nil
		}
		if !ingress {
			one.Spec.Ingress = nil
		}
		adminBaselines = append(adminBaselines, &one)
	}
	if err := replace(s.policies, policies); err != nil {
		return err
	}
	if err := replace(s.adminPolicies, adminPolicies); err != nil {
		return err
	}
	return replace(s.adminBaselines, adminBaselines)
}

func replace[T any](store cache.Store, objects []T) error {
	all := make([]any, 0, len(objects))
	for _, object := range objects {
		all = append(all, object)
	}
	return store.Replace(all, "")
}
