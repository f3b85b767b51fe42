//! Reads objects whose times cannot be read. The API server stores times that no timestamp can hold, such as the end of the year 9999.
//! Whoever may write an object chooses some of its times. No such time may keep the operator from reading a list (I7).

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope},
};
use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::Value;

/// A time; `None` if it is absent or cannot be read.
pub fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Time>, D::Error> {
    from.deserialize_any(AnyTime)
}

struct AnyTime;

impl Visitor<'_> for AnyTime {
    type Value = Option<Time>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.parse().ok().map(Time))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An object of any kind, without the times that cannot be read. The answer to a deletion may be a Status: it has no metadata.
#[derive(Clone, Debug)]
pub struct AnyObject {
    metadata: ObjectMeta,
    /// The whole object.
    pub value: Value,
}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(from)?;
        drop_unreadable_times(&mut value);
        let metadata = value.get("metadata").map(ObjectMeta::deserialize).transpose().map_err(serde::de::Error::custom)?;
        Ok(Self { metadata: metadata.unwrap_or_default(), value })
    }
}

fn drop_unreadable_times(value: &mut Value) {
    let is_time = |key: &str| ["time", "Time", "Timestamp"].iter().any(|end| key.ends_with(end));
    let is_unreadable = |value: &Value| value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_err());
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| !(is_time(key) && is_unreadable(value)));
            fields.values_mut().for_each(drop_unreadable_times);
        }
        Value::Array(entries) => entries.iter_mut().for_each(drop_unreadable_times),
        _ => {}
    }
}

impl Resource for AnyObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::Lease;
    use serde_json::json;

    use super::*;

    const WILD: [&str; 4] = ["9999-12-31T23:59:59Z", "31690708-01-01T00:00:00Z", "soon", ""];

    #[test]
    fn i7_a_time_that_cannot_be_read_counts_as_absent() {
        #[derive(Deserialize)]
        struct Timed {
            #[serde(default, deserialize_with = "time")]
            at: Option<Time>,
        }
        let read = |value: Value| serde_json::from_value::<Timed>(value).unwrap().at.map(|at| at.0.as_second());
        assert_eq!(read(json!({"at": "1970-01-01T00:00:07Z"})), Some(7));
        for absent in [json!({}), json!({"at": null})].into_iter().chain(WILD.map(|text| json!({"at": text}))) {
            assert_eq!(read(absent.clone()), None, "{absent}");
        }
    }

    #[test]
    fn i7_an_object_is_read_without_its_unreadable_times() {
        for wild in WILD {
            let object = json!({
                "metadata": {"name": "n", "resourceVersion": "7", "managedFields": [{"manager": "m", "time": wild}]},
                "spec": {"holderIdentity": "h", "renewTime": wild, "acquireTime": "1970-01-01T00:00:07.000000Z"},
            });
            let read: AnyObject = serde_json::from_value(object).unwrap();
            assert_eq!(read.meta().name.as_deref(), Some("n"));
            let lease = Lease::deserialize(read.value).unwrap().spec.unwrap();
            assert!(lease.renew_time.is_none() && lease.acquire_time.is_some() && lease.holder_identity.is_some());
        }
    }
}
