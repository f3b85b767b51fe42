//! One checked baseline. This module and `checks` make every check that CEL cannot make at admission.
//! The error of a check becomes the condition's reason. Once a baseline is checked, planning cannot fail.
//! One file: a baseline is assembled in one place, so that no part of it can be forgotten.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;

use super::{
    Closed, Namespace,
    allow::{CheckedAllow, Directions},
    checks::{check_dns, check_metadata, check_monitoring, check_rollout, exclusions, glob_matches, matcher},
    labels::{Labels, Matcher},
    opt_out::{Limits, OptOut},
    render::{self, METADATA_NAME, PolicyScope, RenderInputs, Rendered},
    revision::Revision,
    words,
};
use crate::{
    api::{
        Purpose, Role, Roles,
        baseline::{
            ControlPlaneBackends, DeletionPolicy, Discovery, Dns, DnsPeer, DnsStatus, ExistingNamespaces, Mode, Monitoring,
            PolicyBaseline, PolicyMetadata, SourceEgress,
        },
        names::{self, SYSTEM_NAMESPACES},
        other_tools::OtherTools,
        selector::Selector,
    },
    policy::{
        dns::{ClusterDns, DnsGap, OPENSHIFT_DNS},
        kubernetes_api::ClusterApi,
        plan::BaselineError,
        rollout::Strategy as Rollout,
        status::AllowFacts,
    },
};

/// A checked baseline: its spec is valid, and its policies are rendered.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// The name of the object; also the value of the baseline label on its policies.
    pub name: Arc<str>,
    /// When it was created, to the second.
    pub created: Timestamp,
    /// The resourceVersion with which the operator first saw it. What appeared later was created after it.
    pub first_seen: Option<u64>,
    /// Enforce writes policies; Audit only reports.
    pub mode: Mode,
    /// While this is true, the operator writes and removes nothing for this baseline; existing policies stay.
    pub suspended: bool,
    /// What it does with namespaces that are older than the baseline.
    pub existing: ExistingNamespaces,
    /// What it does with namespaces that contain a Service called by the control plane.
    pub backends: ControlPlaneBackends,
    /// The highest priority wins; of equal priorities, the first name in byte order.
    pub priority: i32,
    /// What happens to its policies when it is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The object has a deletion timestamp.
    pub deleting: bool,
    /// Selector and exclusions as a sentence for the status.
    pub effective_selector: String,
    /// Its policies, rendered once for all namespaces.
    pub policies: Vec<Rendered>,
    /// Which opt-outs it allows.
    pub opt_outs: Limits,
    /// For the status: which DNS destinations it allows in addition to its spec.
    pub dns_status: DnsStatus,
    /// What its policies do not allow of the cluster's DNS, and what the user can do about it. `None` if there is no such gap.
    pub dns_gap: Option<DnsGap>,
    /// Where the API server was found.
    api: ClusterApi,
    written: WrittenSpec,
    /// The baseline's name. For a former revision: the name, a slash and the id of the revision.
    pub key: Arc<str>,
    /// The part of its spec that is written into policies.
    pub revision: Revision,
    /// How a change is rolled out; `None` if all namespaces get it at once.
    pub rollout: Option<Rollout>,
    /// The object that was checked, with its spec and the metadata that the check needs, but without status.
    pub(super) object: PolicyBaseline,
    canaries: Option<Matcher>,
    selector: Matcher,
    selector_words: String,
    exclude: Vec<String>,
    scraped: Matcher,
    scrapers: Vec<Matcher>,
    source_egress: SourceEgress,
}

/// The part of the spec that is needed to render the policies again when the cluster's DNS or its API server is found elsewhere.
#[derive(Clone, Debug)]
struct WrittenSpec {
    selector: Selector,
    include_system_namespaces: bool,
    roles: Roles,
    dns: Dns,
    monitoring: Monitoring,
    allows: Vec<CheckedAllow>,
    metadata: PolicyMetadata,
}

impl WrittenSpec {
    /// Renders all policies.
    fn render(&self, baseline: &str, found: &ClusterDns, api: &ClusterApi) -> Vec<Rendered> {
        let Self { roles, dns, monitoring, allows, metadata, .. } = self;
        let closes_sources = monitoring.source_egress == SourceEgress::Enforce
            && [Role::DefaultDenyEgress, Role::MonitoringCarveout].iter().all(|role| roles.contains(*role));
        let roles: Vec<Role> = roles.iter().collect();
        let inputs = RenderInputs { baseline, roles: &roles, dns, found, api, monitoring, closes_sources, allows, metadata };
        inputs.render()
    }
}

impl Baseline {
    /// [`Self::check_with`], with no other tools than those that are known.
    pub fn check(object: &PolicyBaseline, operator_namespace: &str) -> Result<Self, BaselineError> {
        Self::check_with(object, operator_namespace, &OtherTools::default())
    }

    /// Checks a baseline. `operator_namespace` is excluded like a system namespace. The policies may have no tracking key of `tools`.
    /// Only the DNS of the spec is rendered until [`Self::with_cluster`] adds the cluster's DNS.
    pub fn check_with(object: &PolicyBaseline, operator_namespace: &str, tools: &OtherTools) -> Result<Self, BaselineError> {
        let spec = &object.spec;
        spec.monitoring.as_ref().map_or(Ok(()), check_monitoring)?;
        spec.dns.as_ref().map_or(Ok(()), check_dns)?;
        spec.metadata.as_ref().map_or(Ok(()), |metadata| check_metadata(metadata, tools))?;
        let baseline = Self::assemble(object, operator_namespace)?;
        baseline.written.allows.iter().try_for_each(CheckedAllow::check_openings)?;
        Ok(baseline)
    }

    /// Builds a baseline without the checks that only [`Self::check`] makes. It is also used for a stored revision that another
    /// release checked by other rules and wrote to the cluster. Refuses only what cannot be planned with.
    pub(super) fn assemble(object: &PolicyBaseline, operator_namespace: &str) -> Result<Self, BaselineError> {
        let spec = &object.spec;
        let name = object.name_any();
        if names::check_label_value(&name).is_err() {
            return Err(BaselineError::InvalidName(name));
        }
        if spec.policies.is_empty() {
            return Err(BaselineError::NoPolicies);
        }
        let selector = spec.namespace_selector.clone().unwrap_or_default();
        let exclude = exclusions(&spec.exclude_namespaces, spec.include_system_namespaces, operator_namespace)?;
        let monitoring = spec.monitoring.clone().unwrap_or_default();
        let dns = spec.dns.clone().unwrap_or_default();
        let metadata = spec.metadata.clone().unwrap_or_default();
        let opt_outs = Limits::check(spec.opt_outs.as_ref()).map_err(BaselineError::InvalidDuration)?;

        let rollout = spec.rollout.as_ref().map(check_rollout).transpose()?;
        let canaries = spec.rollout.as_ref().and_then(|r| r.canary_selector.as_ref());
        let canaries = canaries.map(|s| matcher("spec.rollout.canarySelector", s)).transpose()?;

        let sources = render::monitoring_sources(&monitoring);
        if sources.is_empty() {
            return Err(BaselineError::EmptyList("spec.monitoring.from"));
        }
        if monitoring.ports.as_ref().is_some_and(Vec::is_empty) {
            return Err(BaselineError::EmptyList("spec.monitoring.ports"));
        }
        let scrapers = sources.iter().map(|(namespaces, _)| matcher("spec.monitoring.from", namespaces));
        let written = WrittenSpec {
            selector: selector.clone(),
            include_system_namespaces: spec.include_system_namespaces,
            roles: spec.policies.iter().copied().collect(),
            dns,
            allows: CheckedAllow::all(&spec.allows)?,
            monitoring,
            metadata,
        };
        let WrittenSpec { dns, monitoring, .. } = &written;
        let policies = written.render(&name, &ClusterDns::default(), &ClusterApi::default());
        let policies = if rollout.is_some() { policies.into_iter().map(Rendered::traced).collect() } else { policies };
        Ok(Self {
            created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            first_seen: None,
            mode: spec.mode,
            suspended: spec.suspend,
            existing: spec.existing_namespaces,
            backends: spec.control_plane_backends,
            priority: spec.priority,
            deletion_policy: spec.deletion_policy,
            deleting: object.metadata.deletion_timestamp.is_some(),
            effective_selector: words::effective_selector(&selector, &exclude),
            selector: matcher("spec.namespaceSelector", &selector)?,
            selector_words: words::effective_selector(&selector, &[]),
            scraped: matcher("spec.monitoring.namespaceSelector", &monitoring.namespace_selector.clone().unwrap_or_default())?,
            scrapers: scrapers.collect::<Result<_, _>>()?,
            source_egress: monitoring.source_egress,
            exclude,
            opt_outs,
            policies,
            dns_status: DnsStatus { discovery: dns.discovery, ..DnsStatus::default() },
            dns_gap: None,
            api: ClusterApi::default(),
            written,
            key: name.as_str().into(),
            revision: Revision::of(spec),
            rollout,
            canaries,
            object: checked_object(object),
            name: name.into(),
        })
    }

    /// [`Self::with_cluster`] while nothing is known of the API server.
    #[must_use]
    pub fn with_dns(self, found: &ClusterDns) -> Self {
        self.with_cluster(found, &ClusterApi::default())
    }

    /// The same baseline with the cluster's DNS and its API server added. It excludes the namespaces in which DNS runs, like system
    /// namespaces, and OpenShift's if the spec names it.
    #[must_use]
    pub fn with_cluster(mut self, found: &ClusterDns, api: &ClusterApi) -> Self {
        let none = ClusterDns::default();
        let is_static = self.written.dns.discovery == Discovery::Static;
        let policies = self.written.render(&self.name, if is_static { &none } else { found }, api);
        self.policies = if self.rollout.is_some() { policies.into_iter().map(Rendered::traced).collect() } else { policies };
        self.api = api.clone();
        if is_static {
            return self;
        }
        let WrittenSpec { selector, include_system_namespaces, dns, .. } = &self.written;
        if !include_system_namespaces {
            let is_of_openshift = |peer: &DnsPeer| {
                let labels = peer.namespace_selector.as_ref().map(|selector| &selector.match_labels);
                labels.and_then(|labels| labels.get(METADATA_NAME)).is_some_and(|name| name == OPENSHIFT_DNS)
            };
            let named = dns.peers.iter().any(is_of_openshift).then_some(OPENSHIFT_DNS);
            self.exclude.extend(found.namespaces().chain(named).map(Into::into));
            self.exclude.sort_unstable();
            self.exclude.dedup();
            self.effective_selector = words::effective_selector(selector, &self.exclude);
        }
        self.dns_status = found.status();
        self.dns_gap = found.gap();
        self
    }

    /// The API server of the cluster, as far as it is known.
    pub const fn api(&self) -> &ClusterApi {
        &self.api
    }

    /// The same baseline, which the operator first saw with this resourceVersion.
    #[must_use]
    pub const fn first_seen_at(mut self, version: u64) -> Self {
        self.first_seen = if version > 0 { Some(version) } else { None };
        self
    }

    /// Whether the canary selector matches: a rollout reaches such a namespace first.
    pub fn is_canary(&self, ns: &Namespace) -> bool {
        self.canaries.as_ref().is_some_and(|canaries| ns.labels.are_selected_by(canaries))
    }

    /// Whether the selector matches and no exclusion matches. Does not consider precedence.
    pub fn selects(&self, ns: &Namespace) -> bool {
        !self.exclude.iter().any(|glob| glob_matches(glob, ns.name.as_str())) && ns.labels.are_selected_by(&self.selector)
    }

    /// Why the baseline does not select a namespace; `None` if it does. `own` is the operator's namespace.
    pub fn why_not_selected(&self, ns: &Namespace, own: &str) -> Option<String> {
        let name = ns.name.as_str();
        if let Some(glob) = self.exclude.iter().find(|glob| glob_matches(glob, name)) {
            let is_built_in = SYSTEM_NAMESPACES.contains(&name) || name == own;
            return Some(if is_built_in {
                format!("{name} is always excluded, unless includeSystemNamespaces is true")
            } else if glob == OPENSHIFT_DNS && name == OPENSHIFT_DNS {
                format!("the cluster's DNS runs in {name}, which is therefore excluded, unless includeSystemNamespaces is true")
            } else {
                format!("spec.excludeNamespaces has {glob}")
            });
        }
        (!self.selects(ns)).then(|| format!("its labels do not match: {}", self.selector_words))
    }

    /// Whether the baseline plans the policy of this role in a namespace that it selects.
    pub fn plans(&self, role: Role, ns: &Namespace) -> bool {
        self.keeps(role, ns) && (role != Role::MonitoringCarveout || self.keeps(Role::DefaultDenyIngress, ns))
    }

    /// Whether the baseline wants this role here, and no opt-out takes it away.
    fn keeps(&self, role: Role, ns: &Namespace) -> bool {
        self.wants(role, ns) && ns.opt_outs.of(role, &self.opt_outs).is_none()
    }

    /// Whether the baseline has the carve-out for this namespace, where ingress is closed.
    fn opens(&self, carveout: Role, ns: &Namespace) -> bool {
        let is_scraped = || ns.labels.are_selected_by(&self.scraped) && ns.opt_outs.of(carveout, &self.opt_outs).is_none();
        self.written.roles.contains(carveout) && is_scraped()
    }

    /// The directions that the baseline closes in a namespace that it selects. Any policy closes its direction for the pods that it
    /// selects, so what only opens something is written only where its direction is closed.
    pub fn closes(&self, ns: &Namespace) -> Closed {
        Closed { ingress: self.keeps(Role::DefaultDenyIngress, ns), egress: self.keeps(Role::DefaultDenyEgress, ns) }
    }

    /// The policies that opt-outs remove from the plan of this namespace, each with the opt-out.
    pub fn opted_out<'a>(&'a self, ns: &'a Namespace) -> impl Iterator<Item = (&'a Rendered, &'a OptOut)> {
        let wanted = self.policies.iter().filter(|policy| match policy.scope {
            PolicyScope::Role => policy.purpose.role().is_some_and(|role| self.wants(role, ns)),
            PolicyScope::Source(source) => self.scrapes(source, ns),
            PolicyScope::Allow(..) => false,
        });
        wanted.filter_map(|policy| Some((policy, ns.opt_outs.of(policy.purpose.role()?, &self.opt_outs)?)))
    }

    /// Whether the baseline closes a namespace that it selects by this role, if there were no opt-outs.
    pub fn closes_by(&self, role: Role, ns: &Namespace) -> bool {
        self.policies.iter().any(|policy| policy.role() == Some(role)) && self.wants(role, ns)
    }

    /// Whether it asks for no default-deny. Then it plans nothing at all, because allows and the carve-out only open what is closed.
    pub fn closes_nothing(&self) -> bool {
        ![Role::DefaultDenyIngress, Role::DefaultDenyEgress].iter().any(|role| self.written.roles.contains(*role))
    }

    /// Whether the baseline would plan this role in this namespace if there were no opt-outs.
    fn wants(&self, role: Role, ns: &Namespace) -> bool {
        // Where the API server calls a Service, what is open stays open, and what is closed stays closed.
        let is_called = || self.called(ns).is_some();
        self.written.roles.contains(role)
            && match role {
                Role::DefaultDenyIngress => ns.closed.ingress || !is_called(),
                // Monitoring pods need the API server and the kubelets. No portable rule can select those.
                Role::DefaultDenyEgress => {
                    let scrapes = || self.scrapers.iter().any(|s| ns.labels.are_selected_by(s));
                    (!is_called() || self.closes_egress_of_called(ns))
                        && (self.source_egress == SourceEgress::Enforce || !scrapes())
                }
                Role::MonitoringCarveout => self.wants(Role::DefaultDenyIngress, ns) && ns.labels.are_selected_by(&self.scraped),
            }
    }

    /// Whether the namespace has the pods of this monitoring source.
    fn scrapes(&self, source: usize, ns: &Namespace) -> bool {
        self.scrapers.get(source).is_some_and(|s| ns.labels.are_selected_by(s))
    }

    /// The pods of a namespace with these labels that scrape others; none if nobody may.
    pub fn scrapers_in(&self, labels: &Labels) -> Vec<LabelSelector> {
        if !self.written.roles.contains(Role::MonitoringCarveout) {
            return vec![];
        }
        let sources = render::monitoring_sources(&self.written.monitoring).into_iter().zip(&self.scrapers);
        sources.filter(|(_, namespaces)| labels.are_selected_by(namespaces)).map(|((_, pods), _)| (&pods).into()).collect()
    }

    /// Why the baseline does not plan the policy of this purpose in a namespace that it selects; `None` if it does.
    pub fn why_not_planned(&self, purpose: &Purpose, ns: &Namespace) -> Option<String> {
        match purpose {
            Purpose::Role(role) => self.why_without(*role, ns),
            Purpose::Allow(_) => {
                let unplanned =
                    self.unplanned_allows(ns).find(|(known, is_partly_planned, _)| known == purpose && !is_partly_planned);
                unplanned.map(|(.., why)| why)
            }
        }
    }

    /// Why the baseline does not plan the policy of this role in a namespace that it selects; `None` if it does.
    pub fn why_without(&self, role: Role, ns: &Namespace) -> Option<String> {
        if !self.written.roles.contains(role) {
            return Some("spec.policies does not name it".into());
        }
        if let Some(OptOut { name, expires, approval, .. }) = ns.opt_outs.of(role, &self.opt_outs) {
            let approval = approval.as_ref().map(|approval| format!(", {approval}")).unwrap_or_default();
            return Some(format!("opt-out {name} until {expires}{approval}"));
        }
        if self.plans(role, ns) {
            return None;
        }
        let direction = if role == Role::MonitoringCarveout { Role::DefaultDenyIngress } else { role };
        let stays_closed =
            if direction == Role::DefaultDenyEgress { self.closes_egress_of_called(ns) } else { ns.closed.ingress };
        let caller = self.called(ns).filter(|_| !stays_closed);
        Some(match (role, caller) {
            (_, Some(caller)) => format!("{caller} here, so the namespace is left alone (controlPlaneBackends)"),
            (Role::DefaultDenyIngress, None) => "ingress is left open".into(),
            (Role::DefaultDenyEgress, None) => {
                "the namespace matches spec.monitoring.from, and monitoring pods need the API server and the kubelets".into()
            }
            (Role::MonitoringCarveout, None) => match self.why_open(Role::DefaultDenyIngress, ns) {
                Some(why) => why,
                None => "the namespace does not match spec.monitoring.namespaceSelector".into(),
            },
        })
    }

    /// Why a policy that opens a direction is not planned, because the direction is not closed; `None` if it is closed.
    fn why_open(&self, deny: Role, ns: &Namespace) -> Option<String> {
        let why = self.why_without(deny, ns)?;
        Some(format!("{deny} is not planned here ({why}), and without it this policy would close the pods that it selects"))
    }

    /// The allows that the baseline does not plan in a namespace that it selects, or only for one of their directions. Each with the
    /// reason, and with true if one direction is planned.
    pub fn unplanned_allows<'a>(&'a self, ns: &'a Namespace) -> impl Iterator<Item = (Purpose, bool, String)> + 'a {
        let closed = Directions::from(self.closes(ns));
        self.written.allows.iter().filter_map(move |allow| {
            let purpose = Purpose::Allow(allow.name.clone());
            if !allow.is_for(&ns.labels) {
                let name = allow.name.as_str();
                return Some((purpose, false, format!("the namespace does not match spec.allows[{name}].namespaceSelector")));
            }
            let open = [
                (allow.directions().ingress && !closed.ingress, Role::DefaultDenyIngress),
                (allow.directions().egress && !closed.egress, Role::DefaultDenyEgress),
            ];
            let why: Vec<String> = open.into_iter().filter_map(|(is, deny)| self.why_open(deny, ns).filter(|_| is)).collect();
            let is_partly_planned = !allow.directions().and(closed).is_none();
            (!why.is_empty()).then(|| (purpose, is_partly_planned, why.join("; ")))
        })
    }

    /// The allows with a direction that the baseline closes nowhere, so that their rules for it are written nowhere. Each with the role that
    /// would close it.
    pub fn allows_without_deny(&self) -> impl Iterator<Item = (&str, Role)> {
        let roles = self.written.roles;
        self.written.allows.iter().flat_map(move |allow| {
            let Directions { ingress, egress } = allow.directions();
            let directions = [(ingress, Role::DefaultDenyIngress), (egress, Role::DefaultDenyEgress)];
            let open = directions.into_iter().filter(move |(is_about, deny)| *is_about && !roles.contains(*deny));
            open.map(|(_, deny)| (allow.name.as_str(), deny))
        })
    }

    /// Whether it has a carve-out for monitoring, and closes neither the ingress of the pods nor the egress of the monitoring.
    pub fn carves_out_of_nothing(&self) -> bool {
        let roles = self.written.roles;
        let closes_sources = roles.contains(Role::DefaultDenyEgress) && self.source_egress == SourceEgress::Enforce;
        roles.contains(Role::MonitoringCarveout) && !roles.contains(Role::DefaultDenyIngress) && !closes_sources
    }

    /// Whether an allow has the peer `kubernetesAPI`.
    pub fn needs_api(&self) -> bool {
        self.written.allows.iter().any(CheckedAllow::needs_api)
    }

    /// What a status says of the allows.
    pub fn allow_facts(&self) -> AllowFacts {
        let opening = |allow: &CheckedAllow| Some(format!("{} {}", allow.name.as_str(), allow.opening.as_ref()?));
        let needs_api = self.needs_api();
        AllowFacts {
            openings: self.written.allows.iter().filter_map(opening).collect(),
            api: needs_api.then(|| self.api.status()),
            api_gap: self.api.gap().filter(|_| needs_api),
        }
    }

    /// What this policy opens to everybody; `None` if it does not.
    pub fn opening(&self, policy: &Rendered) -> Option<&str> {
        let PolicyScope::Allow(index, _) = policy.scope else { return None };
        self.written.allows.get(index)?.opening.as_deref()
    }

    /// Who calls a Service in this namespace, if the baseline leaves the namespace alone for this caller.
    pub fn holds<'a>(&self, ns: &'a Namespace) -> Option<&'a str> {
        self.called(ns).filter(|_| self.closed_roles(ns).next().is_none())
    }

    /// Who calls a Service in this namespace, if a policy closes it all the same; and the role of this policy.
    pub fn blocks<'a>(&self, ns: &'a Namespace) -> Option<(&'a str, Role)> {
        self.called(ns).zip(self.closed_roles(ns).next())
    }

    /// The default-denies that the baseline would plan in this namespace if nobody called a Service there, and that would cut off the caller
    /// or the pods that it calls.
    fn denies(&self, ns: &Namespace) -> impl Iterator<Item = Role> {
        let is_opted_out = |role: Role| ns.opt_outs.of(role, &self.opt_outs).is_some();
        let is_harmless = |role: Role| role == Role::DefaultDenyEgress && self.allows_api(ns);
        [Role::DefaultDenyIngress, Role::DefaultDenyEgress]
            .into_iter()
            .filter(move |role| self.written.roles.contains(*role) && !is_opted_out(*role) && !is_harmless(*role))
    }

    /// Whether an allow lets every pod of this namespace reach the API server, and it is known where that is. Then its egress may be
    /// closed although the API server calls a Service there.
    pub fn allows_api(&self, ns: &Namespace) -> bool {
        !self.api.by_port().is_empty() && self.has_allow_of_api(ns)
    }

    /// Whether an allow lets every pod of this namespace reach the API server, wherever that is.
    fn has_allow_of_api(&self, ns: &Namespace) -> bool {
        let is_for_all = |allow: &CheckedAllow| allow.needs_api() && allow.pods.is_empty() && allow.is_for(&ns.labels);
        self.written.allows.iter().any(is_for_all)
    }

    /// Whether the egress is closed of a namespace in which the API server calls a Service. If only its egress is closed, an allow of the
    /// API server was the reason, so it opens when that allow goes. If both directions are closed, it was closed before it was called.
    fn closes_egress_of_called(&self, ns: &Namespace) -> bool {
        let only_egress = || !ns.closed.ingress && self.denies(ns).any(|role| role == Role::DefaultDenyIngress);
        self.allows_api(ns) || (ns.closed.egress && (self.has_allow_of_api(ns) || !only_egress()))
    }

    /// Those of them by which the namespace is closed already.
    fn closed_roles(&self, ns: &Namespace) -> impl Iterator<Item = Role> {
        self.denies(ns).filter(move |role| ns.closed.by(*role) && self.wants(*role, ns))
    }

    /// Who calls a Service in this namespace, if the baseline would close it and `controlPlaneBackends` is Hold.
    fn called<'a>(&self, ns: &'a Namespace) -> Option<&'a str> {
        let hold = self.backends == ControlPlaneBackends::Hold;
        ns.serves.as_deref().map(String::as_str).filter(|_| hold && self.denies(ns).next().is_some())
    }

    /// The policies that the baseline plans in a namespace that it selects, with their index in `policies`. No two have the same name.
    pub fn planned<'a>(&'a self, ns: &'a Namespace) -> impl Iterator<Item = (usize, &'a Rendered)> {
        let closes = self.closes(ns);
        self.planned_where(closes, closes, ns)
    }

    /// Whether a policy of this name is planned there.
    pub fn plans_named(&self, policy: &str, ns: &Namespace) -> bool {
        self.planned(ns).any(|(_, planned)| planned.name == policy)
    }

    /// The policies that may be there now. What lets something through stays as long as finalizers keep a default-deny: `kept` has these
    /// directions. While an allow cannot be written, the policies are those of the directions that are closed already: any other one would
    /// isolate pods without that allow. `is_failing` says of a policy that its last write failed and that it is not there as planned; such an
    /// allow is tried again.
    pub fn planned_for_now<'a>(
        &'a self,
        ns: &'a Namespace,
        kept: Closed,
        is_failing: impl Fn(usize, &Rendered) -> bool,
    ) -> impl Iterator<Item = (usize, &'a Rendered)> {
        let closes = self.closes(ns);
        let fails = |index, policy: &Rendered| matches!(policy.scope, PolicyScope::Allow(..)) && is_failing(index, policy);
        let mut planned: Vec<(usize, &Rendered)> = self.planned_where(closes, closes.or(kept), ns).collect();
        if planned.iter().any(|(index, policy)| fails(*index, policy)) {
            planned.retain(|(index, policy)| fails(*index, policy));
            let is_named = |name: &str| planned.iter().any(|(_, policy)| policy.name == name);
            let isolated = closes.or(kept).and(ns.closed);
            let others = self.planned_where(closes.and(ns.closed), isolated, ns).filter(|(_, policy)| !is_named(&policy.name));
            let others: Vec<(usize, &Rendered)> = others.collect();
            planned.extend(others);
        }
        planned.into_iter()
    }

    /// The policies that are planned where the baseline closes these directions, and where pods are `isolated` in these.
    fn planned_where<'a>(
        &'a self,
        closes: Closed,
        isolated: Closed,
        ns: &'a Namespace,
    ) -> impl Iterator<Item = (usize, &'a Rendered)> {
        let is_planned = move |policy: &Rendered| match policy.scope {
            PolicyScope::Role => match policy.role() {
                Some(Role::DefaultDenyIngress) => closes.ingress,
                Some(Role::DefaultDenyEgress) => closes.egress,
                Some(role @ Role::MonitoringCarveout) => isolated.ingress && self.opens(role, ns),
                None => false,
            },
            // Without default-deny-egress a source policy would open nothing. It would only deny the monitoring pods all other egress.
            PolicyScope::Source(source) => {
                isolated.egress && self.scrapes(source, ns) && ns.opt_outs.of(Role::MonitoringCarveout, &self.opt_outs).is_none()
            }
            PolicyScope::Allow(index, part) => {
                let allow = self.written.allows.get(index);
                allow.is_some_and(|allow| allow.directions().and(isolated.into()) == part && allow.is_for(&ns.labels))
            }
        };
        self.policies.iter().enumerate().filter(move |(_, policy)| is_planned(policy))
    }
}

/// The parts of the object that are needed to build a former revision.
fn checked_object(object: &PolicyBaseline) -> PolicyBaseline {
    let PolicyBaseline { metadata, spec, .. } = object;
    let metadata = ObjectMeta {
        name: metadata.name.clone(),
        creation_timestamp: metadata.creation_timestamp.clone(),
        deletion_timestamp: metadata.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    };
    PolicyBaseline { metadata, spec: spec.clone(), status: None }
}

#[cfg(test)]
mod tests;
