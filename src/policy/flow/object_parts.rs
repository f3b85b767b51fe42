//! What several kinds of objects have in common: a name, labels, addresses.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use strum::IntoStaticStr;

use super::owners::{OwnerFields, PodOwner, controller};

/// Where a namespaced object is that names no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
pub enum IpFamily {
    IPv4,
    IPv6,
}

impl IpFamily {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }
}

/// The metadata of an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameAndLabels {
    pub name: String,
    pub namespace: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerFields>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    generation: Option<i64>,
    managed_fields: Option<Vec<ManagedFields>>,
}

/// What one manager wrote of an object, of which only the time counts.
#[derive(Debug, Deserialize)]
struct ManagedFields {
    time: Option<String>,
}

/// Whether somebody changed an object after it was created, as far as its metadata says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectEdits {
    /// Its spec is not the first one.
    pub is_changed: bool,
    /// When it was written last; none if its metadata does not have it, as `kubectl get` leaves it out.
    pub last: Option<Timestamp>,
}

impl NameAndLabels {
    /// When it was created. A time that cannot be read is none: it decides nothing.
    pub fn created(&self) -> Option<Timestamp> {
        self.creation_timestamp.as_deref()?.parse().ok()
    }

    /// What was changed since then.
    pub fn edits(&self) -> ObjectEdits {
        let times = self.managed_fields.iter().flatten().filter_map(|one| one.time.as_deref()?.parse().ok());
        ObjectEdits { is_changed: self.generation.is_some_and(|generation| generation > 1), last: times.max() }
    }

    /// What owns it. Takes it away.
    pub fn owner(&mut self) -> Option<PodOwner> {
        self.owner_references.take().and_then(controller)
    }

    /// Whether it is being deleted.
    pub const fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// The namespace, the name and the labels of a namespaced object.
    pub fn parts(self) -> (String, String, BTreeMap<String, String>) {
        (self.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.into()), self.name, self.labels.unwrap_or_default())
    }
}

/// Some objects have `null` where others have nothing.
pub fn null_as_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The addresses in these texts, each once. What is no address, such as the cluster IP `None`, is left out.
pub fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    let parsed = texts.into_iter().filter_map(|text| text.parse::<IpAddr>().ok());
    let mut seen = HashSet::new();
    parsed.map(|address| address.to_canonical()).filter(|address| seen.insert(*address)).collect()
}
