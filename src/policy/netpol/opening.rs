//! What a policy opens although a baseline closes it, in words and in order of width.

use std::fmt;

/// The widest opening of a policy in each direction.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Openings {
    /// Who may reach the pods; `None` if the policy opens nothing that concerns a baseline.
    pub ingress: Option<Opening>,
    /// Whom the pods may reach; `None` likewise.
    pub egress: Option<Opening>,
    /// The blocks of the ingress rules were not added up port by port, because they are too many.
    pub is_ingress_too_large: bool,
    /// The same of the egress rules.
    pub is_egress_too_large: bool,
}

impl Openings {
    /// Whether the policy opens nothing that concerns a baseline.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// An opening. A wider opening compares as greater.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Opening {
    /// Who may reach the pods, or whom they may reach.
    pub peers: Peers,
    /// On which ports.
    pub ports: Ports,
    /// Which pods of the namespace are open.
    pub pods: Pods,
    /// The index of the first rule that is part of the opening.
    pub rule: u16,
}

/// The other side of an opening.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Peers {
    /// Every pod of the cluster, or almost every pod.
    EveryPod,
    /// Every IPv6 address.
    EveryIpv6,
    /// Every IPv4 address.
    EveryIpv4,
    /// Everybody, inside and outside of the cluster.
    Everybody,
}

/// The ports of an opening.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Ports {
    /// Some ports.
    Some,
    /// All ports of TCP and of UDP.
    All,
}

/// The pods that a policy selects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Pods {
    /// All pods except those that carry some label.
    AlmostEvery,
    /// All pods.
    Every,
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EveryPod => "every pod of the cluster",
            Self::EveryIpv6 => "every IPv6 address",
            Self::EveryIpv4 => "every IPv4 address",
            Self::Everybody => "everybody",
        })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Some => "some ports",
            Self::All => "all ports",
        })
    }
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlmostEvery => "almost every pod",
            Self::Every => "every pod",
        })
    }
}
