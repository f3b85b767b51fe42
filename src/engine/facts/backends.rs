//! Which namespaces hold Services that the API server calls, and which objects name these Services. Objects that name no Service are not
//! kept. A namespace that an object names need not exist.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use crate::{
    api::backends::{Configuration, ConfigurationKind, ServiceName},
    policy::listing::Listing,
};

/// The limit of a text of `words`, in characters. The API server does not check every name, so longer texts are cut.
const MAX_WORDS: usize = 320;

/// An object (kind and name), and the name of a Service that it names.
type ServiceCall = (ConfigurationKind, Arc<str>, String);

/// The namespaces that serve the control plane.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Backends {
    services: BTreeMap<(ConfigurationKind, Arc<str>), Vec<ServiceName>>,
    calls: BTreeMap<String, BTreeSet<ServiceCall>>,
    /// The Services that exist, as hashes of their names: a cluster can have many. `None` until they are listed; until then, each that is
    /// named counts as existing.
    existing: Option<HashSet<u64>>,
    /// What is known of the Services may be old, so each that is named counts as existing.
    are_services_old: bool,
}

fn hash(service: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    service.hash(&mut hasher);
    hasher.finish()
}

/// The same, with the state of the watches.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct WatchedBackends {
    /// The current state.
    pub known: Backends,
    /// By kind: the objects that its list has named so far.
    pub listings: BTreeMap<ConfigurationKind, Listing<String>>,
    /// When the hold ends, for each namespace that no longer serves the control plane.
    pub ending: BTreeMap<String, Instant>,
}

impl Backends {
    /// Stores an object. Returns the namespaces whose `words` may have changed.
    pub fn set(&mut self, configuration: Configuration) -> BTreeSet<String> {
        let Configuration { kind, name, services, .. } = configuration;
        let name: Arc<str> = name.into();
        let known = self.services.get(&(kind, name.clone())).map(Vec::as_slice).unwrap_or_default();
        if *known == services[..] {
            return BTreeSet::new();
        }
        let mut changed = self.remove(kind, &name);
        for service in &services {
            let call = (kind, name.clone(), service.name.clone());
            self.calls.entry(service.namespace.clone()).or_default().insert(call);
            changed.insert(service.namespace.clone());
        }
        if !services.is_empty() {
            self.services.insert((kind, name), services);
        }
        changed
    }

    /// Removes an object. Returns the namespaces whose `words` may have changed.
    pub fn remove(&mut self, kind: ConfigurationKind, name: &str) -> BTreeSet<String> {
        let name: Arc<str> = name.into();
        let mut changed = BTreeSet::new();
        for service in self.services.remove(&(kind, name.clone())).unwrap_or_default() {
            if let Some(calls) = self.calls.get_mut(&service.namespace) {
                calls.remove(&(kind, name.clone(), service.name));
                if calls.is_empty() {
                    self.calls.remove(&service.namespace);
                }
            }
            changed.insert(service.namespace);
        }
        changed
    }

    /// A Service exists, or is gone. Returns its namespace if `words` may have changed there.
    pub fn service_seen(&mut self, service: &str, exists: bool) -> BTreeSet<String> {
        let Some(existing) = &mut self.existing else { return BTreeSet::new() };
        let is_news = if exists { existing.insert(hash(service)) } else { existing.remove(&hash(service)) };
        let namespace = service.split('/').next().filter(|namespace| is_news && self.calls.contains_key(*namespace));
        namespace.map(Into::into).into_iter().collect()
    }

    /// The list of Services is complete. Returns the namespaces whose `words` may have changed.
    pub fn services_listed(&mut self, named: &HashSet<String>) -> BTreeSet<String> {
        self.existing = Some(named.iter().map(|service| hash(service)).collect());
        self.are_services_old = false;
        self.calls.keys().cloned().collect()
    }

    /// Whether Services were listed.
    pub const fn knows_services(&self) -> bool {
        self.existing.is_some() && !self.are_services_old
    }

    /// The watch of Services has failed for long, or works again. Returns the namespaces whose `words` may have changed.
    pub fn services_may_be_old(&mut self, are_old: bool) -> BTreeSet<String> {
        let is_news = std::mem::replace(&mut self.are_services_old, are_old) != are_old;
        if is_news { self.calls.keys().cloned().collect() } else { BTreeSet::new() }
    }

    fn exists(&self, namespace: &str, name: &str) -> bool {
        !self.knows_services()
            || self.existing.as_ref().is_none_or(|existing| existing.contains(&hash(&format!("{namespace}/{name}"))))
    }

    /// The objects of a kind that name Services.
    pub fn known(&self, kind: ConfigurationKind) -> impl Iterator<Item = &Arc<str>> {
        self.services.keys().filter(move |(of, _)| *of == kind).map(|(_, name)| name)
    }

    /// A text that says which object calls which existing Service in that namespace; `None` if there is none.
    pub fn words(&self, namespace: &str) -> Option<Arc<str>> {
        let mut calls = self.calls.get(namespace)?.iter().filter(|(.., service)| self.exists(namespace, service));
        let (kind, name, service) = calls.next()?;
        let mut words = format!("{}/{name} calls Service {service}", kind.into_str());
        let more = calls.count();
        if more > 0 {
            words = format!("{words} (and {more} more such calls)");
        }
        Some(words.chars().take(MAX_WORDS).collect::<String>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::facts::backends::ConfigurationKind::{ApiService, Crd, Mutating, Validating};

    fn calling(kind: ConfigurationKind, name: &str, services: &[(&str, &str)]) -> Configuration {
        let service = |(namespace, name): &(&str, &str)| ServiceName { namespace: (*namespace).into(), name: (*name).into() };
        Configuration { kind, name: name.into(), services: services.iter().map(service).collect(), missing_fields: vec![] }
    }

    fn names(changed: BTreeSet<String>) -> Vec<String> {
        changed.into_iter().collect()
    }

    #[test]
    fn a_namespace_serves_while_something_names_a_service_in_it() {
        let mut backends = Backends::default();
        assert_eq!(names(backends.set(calling(Validating, "v", &[("a", "s"), ("b", "t")]))), ["a", "b"]);
        assert_eq!(names(backends.set(calling(Crd, "c", &[("a", "s")]))), ["a"]);
        assert_eq!(
            backends.words("a").as_deref(),
            Some("ValidatingWebhookConfiguration/v calls Service s (and 1 more such calls)")
        );
        assert_eq!(backends.words("b").as_deref(), Some("ValidatingWebhookConfiguration/v calls Service t"));
        assert_eq!(backends.words("c"), None);
        assert_eq!(names(backends.set(calling(Validating, "v", &[("b", "t")]))), ["a", "b"]);
        assert_eq!(backends.words("a").as_deref(), Some("CustomResourceDefinition/c calls Service s"));
        assert_eq!(names(backends.remove(Crd, "c")), ["a"]);
        assert_eq!(backends.words("a"), None);
    }

    #[test]
    fn the_same_again_and_what_names_no_service_is_no_news() {
        let mut backends = Backends::default();
        assert!(backends.set(calling(ApiService, "v1.apps", &[])).is_empty());
        backends.set(calling(Mutating, "m", &[("a", "s")]));
        assert!(backends.set(calling(Mutating, "m", &[("a", "s")])).is_empty());
        assert_eq!(backends.known(Mutating).map(|name| &**name).collect::<Vec<_>>(), ["m"]);
        assert_eq!(backends.known(ApiService).count(), 0, "most name none, and are not kept");
        assert!(backends.remove(ApiService, "v1.apps").is_empty());
        assert_eq!(names(backends.set(calling(Mutating, "m", &[]))), ["a"]);
        assert_eq!((backends.services.len(), backends.calls.len()), (0, 0));
    }

    #[test]
    fn only_a_service_that_exists_is_called_and_until_services_are_listed_each_counts() {
        let mut backends = Backends::default();
        backends.set(calling(Validating, "v", &[("a", "s"), ("a", "t"), ("b", "s")]));
        assert!(backends.service_seen("a/s", false).is_empty() && backends.words("b").is_some(), "they are not listed");
        assert_eq!(names(backends.services_listed(&["a/t".to_owned(), "c/s".to_owned()].into())), ["a", "b"]);
        assert_eq!(backends.words("a").as_deref(), Some("ValidatingWebhookConfiguration/v calls Service t"));
        assert_eq!(backends.words("b"), None);
        assert_eq!(names(backends.service_seen("b/s", true)), ["b"]);
        assert!(backends.service_seen("b/s", true).is_empty() && backends.service_seen("c/x", true).is_empty());
        assert!(backends.words("b").is_some());
        assert_eq!(names(backends.service_seen("a/t", false)), ["a"]);
        assert_eq!(backends.words("a"), None);
    }

    #[test]
    fn i16_while_what_is_known_of_services_may_be_old_each_counts_as_existing() {
        let mut backends = Backends::default();
        backends.set(calling(Validating, "v", &[("a", "s"), ("b", "s")]));
        backends.services_listed(&["a/s".to_owned()].into());
        assert_eq!(names(backends.services_may_be_old(true)), ["a", "b"]);
        assert!(backends.services_may_be_old(true).is_empty() && backends.words("b").is_some());
        // What its events say counts again once it works.
        backends.service_seen("a/s", false);
        assert!(backends.words("a").is_some());
        assert_eq!(names(backends.services_may_be_old(false)), ["a", "b"]);
        assert_eq!((backends.words("a"), backends.words("b")), (None, None));
        backends.services_may_be_old(true);
        backends.services_listed(&HashSet::new());
        assert_eq!(backends.words("b"), None, "a list is the truth");
    }

    #[test]
    fn words_are_bounded_whatever_the_names() {
        let mut backends = Backends::default();
        let long = "x".repeat(5000);
        backends.set(calling(Validating, &long, &[("a", &long)]));
        assert_eq!(backends.words("a").unwrap().chars().count(), MAX_WORDS);
    }
}
