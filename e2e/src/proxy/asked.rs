//! The meaning of a request to the API server, read from its method and its URI.

use std::fmt::{self, Display, Formatter};

use http::{Method, Uri};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// One request. Fields that the request does not name are empty. For a request that is not about a resource, only the verb is set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub verb: Verb,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Whether it is a watch that begins with a list.
    pub streams_a_list: bool,
}

impl Asked {
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let below = match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => &[],
        };
        let (namespace, rest) = match below {
            // Requests for objects in a namespace, but not for a namespace's own subresources.
            ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status" | "finalize"]) => (*namespace, rest),
            rest => ("", rest),
        };
        let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let (resource, name, subresource) = (at(0), at(1), at(2));
        let says = |what: &[&str]| uri.query().is_some_and(|query| query.split('&').any(|part| what.contains(&part)));
        let watches = says(&["watch=true", "watch=1"]);
        let verb = match (method.as_str(), name.is_empty()) {
            ("POST", _) => Verb::Create,
            ("PUT", _) => Verb::Update,
            ("PATCH", _) => Verb::Patch,
            ("DELETE", false) => Verb::Delete,
            ("DELETE", true) => Verb::DeleteCollection,
            _ if watches => Verb::Watch,
            (_, true) if !resource.is_empty() => Verb::List,
            _ => Verb::Get,
        };
        let streams_a_list = verb == Verb::Watch && says(&["sendInitialEvents=true"]);
        Self { verb, resource, subresource, namespace: namespace.to_owned(), name, streams_a_list }
    }

    pub fn is_write(&self) -> bool {
        self.verb.is_write()
    }

    pub fn is_of(&self, resource: &str) -> bool {
        self.resource == resource
    }
}

impl Display for Asked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verb.as_str())?;
        let said = [&self.resource, &self.namespace, &self.name, &self.subresource];
        said.into_iter().filter(|part| !part.is_empty()).try_for_each(|part| write!(f, " {part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_method_and_its_address() {
        for (method, uri, told) in [
            ("GET", "/version", "get"),
            ("GET", "/api/v1/namespaces?limit=500", "list namespaces"),
            ("GET", "/api/v1/namespaces?watch=true&resourceVersion=7", "watch namespaces"),
            ("GET", "/api/v1/namespaces/a", "get namespaces a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update namespaces a finalize"),
            ("GET", "/apis/networking.k8s.io/v1/networkpolicies", "list networkpolicies"),
            ("PATCH", "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/p?force=true", "patch networkpolicies a p"),
            ("DELETE", "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/p", "delete networkpolicies a p"),
            ("DELETE", "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies", "deletecollection networkpolicies a"),
            ("POST", "/apis/events.k8s.io/v1/namespaces/a/events", "create events a"),
            ("PATCH", "/apis/policybaseline.io/v1alpha1/policybaselines/b/status", "patch policybaselines b status"),
        ] {
            let asked = Asked::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(asked.to_string(), told, "{method} {uri}");
        }
    }
}
