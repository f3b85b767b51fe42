//! The facts that are read from objects that make the API server call a Service: the object's name and the Services that it names.
//! Nothing else is deserialised, not even from a CRD, which can be large.

use std::{borrow::Cow, fmt};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Service,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use strum::{IntoStaticStr, VariantArray};

use super::crd_fields::{CrdVersions, is_ours};

/// The kinds of objects that make the API server call a Service, and Services themselves: only one that exists is called.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum ConfigurationKind {
    /// Webhooks that admit or refuse requests.
    #[strum(serialize = "ValidatingWebhookConfiguration")]
    Validating,
    /// Webhooks that may change requests.
    #[strum(serialize = "MutatingWebhookConfiguration")]
    Mutating,
    /// A part of the API that a Service serves.
    #[strum(serialize = "APIService")]
    ApiService,
    /// A CRD; a Service may convert its versions.
    #[strum(serialize = "CustomResourceDefinition")]
    Crd,
    /// A Service. It names itself.
    Service,
}

impl ConfigurationKind {
    /// The plural resource name in the API.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Validating => "validatingwebhookconfigurations",
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::ApiService => "apiservices",
            Self::Crd => "customresourcedefinitions",
            Self::Service => "services",
        }
    }
}

/// An object that may make the API server call Services.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configuration {
    /// The kind of the object.
    pub kind: ConfigurationKind,
    /// The name of the object; of a Service with its namespace, as in `cert-manager/webhook`.
    pub name: String,
    /// The Services that it names, sorted and without duplicates. Empty if it names only URLs, or the API server itself.
    pub services: Vec<ServiceName>,
    /// The fields that a CRD of the operator lacks (see [`super::crd_fields`]); empty for all other objects.
    pub missing_fields: Vec<String>,
}

/// The namespace and name of a Service.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct ServiceName {
    /// The namespace of the Service.
    #[serde(default)]
    pub namespace: String,
    /// The name of the Service.
    #[serde(default)]
    pub name: String,
}

/// A watched object of one of these kinds.
pub trait Caller: Resource<DynamicType = ()> {
    /// The kind of the object.
    const KIND: ConfigurationKind;

    /// The object's name, and the Services that it names.
    fn configuration(self) -> Configuration;
}

#[derive(Clone, Debug, Deserialize)]
struct Webhook {
    #[serde(default, rename = "clientConfig")]
    client: Option<ClientConfig>,
}

#[derive(Clone, Debug, Deserialize)]
struct ClientConfig {
    #[serde(default)]
    service: Option<ServiceName>,
}

/// The watched form of a ValidatingWebhookConfiguration.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "ValidatingWebhookConfiguration")]
pub struct SlimValidating {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    webhooks: Option<Vec<Webhook>>,
}

/// The watched form of a MutatingWebhookConfiguration.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "MutatingWebhookConfiguration")]
pub struct SlimMutating {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    webhooks: Option<Vec<Webhook>>,
}

/// The watched form of an APIService.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "APIService")]
pub struct SlimApiService {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<ClientConfig>,
}

/// The watched form of a CRD.
#[derive(Clone, Debug, Resource)]
#[resource(inherit = "CustomResourceDefinition")]
pub struct SlimCrd {
    metadata: ObjectMeta,
    spec: Option<CrdSpec>,
}

#[derive(Clone, Debug, Default)]
struct CrdSpec {
    conversion: Option<Conversion>,
    /// Only of a CRD of the operator.
    versions: CrdVersions,
}

/// Schemas are large, and a cluster can have hundreds of CRDs. So the schema is read only if the name, which comes before it, is ours.
impl<'de> Deserialize<'de> for SlimCrd {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Crd;
        impl<'de> Visitor<'de> for Crd {
            type Value = SlimCrd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CustomResourceDefinition")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<SlimCrd, M::Error> {
                let mut crd = SlimCrd { metadata: ObjectMeta::default(), spec: None };
                while let Some(key) = map.next_key::<String>()? {
                    match &*key {
                        "metadata" => crd.metadata = map.next_value::<CrdMetadata>()?.0,
                        "spec" if crd.metadata.name.as_deref().is_some_and(is_ours) => {
                            crd.spec = map
                                .next_value::<Option<FullCrdSpec>>()?
                                .map(|spec| CrdSpec { conversion: spec.conversion, versions: spec.versions });
                        }
                        "spec" => {
                            let spec = map.next_value::<Option<OtherCrdSpec>>()?;
                            crd.spec = spec.map(|spec| CrdSpec { conversion: spec.conversion, ..CrdSpec::default() });
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(crd)
            }
        }
        from.deserialize_map(Crd)
    }
}

#[derive(Deserialize)]
struct CrdMetadata(#[serde(deserialize_with = "identity")] ObjectMeta);

#[derive(Deserialize)]
struct OtherCrdSpec {
    #[serde(default)]
    conversion: Option<Conversion>,
}

#[derive(Deserialize)]
struct FullCrdSpec {
    #[serde(default)]
    conversion: Option<Conversion>,
    #[serde(default)]
    versions: CrdVersions,
}

#[derive(Clone, Debug, Deserialize)]
struct Conversion {
    #[serde(default)]
    webhook: Option<Webhook>,
}

/// The watched form of a Service. Only its metadata is transferred.
#[derive(Clone, Debug, Deserialize)]
pub struct ExistingService {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
}

impl Resource for ExistingService {
    type DynamicType = ();
    type Scope = <Service as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        <Service as Resource>::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        <Service as Resource>::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        <Service as Resource>::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        <Service as Resource>::plural(&())
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Caller for ExistingService {
    const KIND: ConfigurationKind = ConfigurationKind::Service;

    fn configuration(self) -> Configuration {
        let ObjectMeta { name, namespace, .. } = self.metadata;
        let service = ServiceName { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() };
        let name = service.to_string();
        Configuration { kind: Self::KIND, name, services: vec![service], missing_fields: vec![] }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Caller for SlimValidating {
    const KIND: ConfigurationKind = ConfigurationKind::Validating;

    fn configuration(self) -> Configuration {
        configuration(Self::KIND, self.metadata, of_webhooks(self.webhooks))
    }
}

impl Caller for SlimMutating {
    const KIND: ConfigurationKind = ConfigurationKind::Mutating;

    fn configuration(self) -> Configuration {
        configuration(Self::KIND, self.metadata, of_webhooks(self.webhooks))
    }
}

impl Caller for SlimApiService {
    const KIND: ConfigurationKind = ConfigurationKind::ApiService;

    fn configuration(self) -> Configuration {
        configuration(Self::KIND, self.metadata, self.spec.and_then(|spec| spec.service))
    }
}

impl Caller for SlimCrd {
    const KIND: ConfigurationKind = ConfigurationKind::Crd;

    fn configuration(self) -> Configuration {
        let CrdSpec { conversion, versions } = self.spec.unwrap_or_default();
        let webhook = conversion.and_then(|conversion| conversion.webhook);
        let crd = configuration(Self::KIND, self.metadata, of_webhooks(webhook.map(|webhook| vec![webhook])));
        Configuration { missing_fields: versions.missing_fields(&crd.name), ..crd }
    }
}

fn of_webhooks(webhooks: Option<Vec<Webhook>>) -> impl Iterator<Item = ServiceName> {
    webhooks.into_iter().flatten().filter_map(|webhook| webhook.client?.service)
}

fn configuration(
    kind: ConfigurationKind,
    metadata: ObjectMeta,
    services: impl IntoIterator<Item = ServiceName>,
) -> Configuration {
    let mut services: Vec<ServiceName> = services.into_iter().collect();
    services.sort_unstable();
    services.dedup();
    Configuration { kind, name: metadata.name.unwrap_or_default(), services, missing_fields: vec![] }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimIdentity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Reads only these fields of the metadata.
pub fn identity<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let SlimIdentity { name, namespace, uid, resource_version } = SlimIdentity::deserialize(from)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<K: Caller + serde::de::DeserializeOwned>(mut object: Value) -> Vec<String> {
        object["metadata"] = json!({"name": "n", "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}]});
        let read = serde_json::from_value::<K>(object).unwrap();
        assert_eq!(read.meta().resource_version.as_deref(), Some("7"));
        let Configuration { kind, name, services, .. } = read.configuration();
        assert_eq!((kind, &*name), (K::KIND, "n"));
        services.into_iter().map(|service| format!("{}/{}", service.namespace, service.name)).collect()
    }

    fn webhooks() -> Value {
        let service = |namespace: &str| json!({"name": "w.x.y", "clientConfig": {"service": {"namespace": namespace, "name": "s", "port": 443}, "caBundle": "eA=="}});
        json!({"webhooks": [service("b"), {"name": "u.x.y", "clientConfig": {"url": "https://x.example"}}, service("a"), service("b")]})
    }

    #[test]
    fn each_kind_tells_the_services_that_it_names_each_once() {
        assert_eq!(read::<SlimValidating>(webhooks()), ["a/s", "b/s"]);
        assert_eq!(read::<SlimMutating>(webhooks()), ["a/s", "b/s"]);
        assert_eq!(read::<SlimApiService>(json!({"spec": {"service": {"namespace": "a", "name": "s"}, "group": "g"}})), ["a/s"]);
        let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"service": {"namespace": "a", "name": "s"}}, "conversionReviewVersions": ["v1"]}});
        assert_eq!(read::<SlimCrd>(json!({"spec": {"conversion": conversion, "versions": [{"name": "v1"}]}})), ["a/s"]);
    }

    #[test]
    fn a_service_names_itself() {
        let object = json!({"metadata": {"name": "webhook", "namespace": "a"}, "spec": {"clusterIP": "None"}});
        let Configuration { kind, name, services, .. } =
            serde_json::from_value::<ExistingService>(object).unwrap().configuration();
        assert_eq!((kind, &*name, services[0].to_string()), (ConfigurationKind::Service, "a/webhook", name.clone()));
    }

    #[test]
    fn what_names_no_service_serves_nothing() {
        let none: [&str; 0] = [];
        for object in [json!({}), json!({"webhooks": null}), json!({"webhooks": []}), json!({"webhooks": [{"name": "w"}]})] {
            assert_eq!(read::<SlimValidating>(object), none);
        }
        assert_eq!(read::<SlimApiService>(json!({"spec": {"group": "g", "service": null}})), none);
        assert_eq!(read::<SlimCrd>(json!({"spec": {"conversion": {"strategy": "None"}}})), none);
        let url = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://x.example"}}});
        assert_eq!(read::<SlimCrd>(json!({"spec": {"conversion": url}})), none);
    }
}
