//! Deletes thousands of namespaces between two rounds, directly in etcd. Through the API server that would take as long as the
//! measurement itself. The API server sees these deletions like any others.

use anyhow::{Result, ensure};
use k8s_openapi::ByteString;
use serde_json::json;

use super::http;
use super::side::Population;

/// First what the namespaces hold, then the namespaces themselves.
const KINDS: [&str; 4] = ["networkpolicies", SERVICES, "events", "namespaces"];
const SERVICES: &str = "services/specs";
/// Names end in five digits. One request deletes all names with the same first three digits.
const TOGETHER: usize = 100;

/// Deletes a population. No operator may run meanwhile.
pub async fn clear(etcd: &str, population: &Population) -> Result<()> {
    delete(etcd, population, &KINDS).await
}

/// Deletes the Services of a population, and leaves the rest.
pub async fn clear_services(etcd: &str, population: &Population) -> Result<()> {
    delete(etcd, population, &[SERVICES]).await
}

async fn delete(etcd: &str, population: &Population, kinds: &[&str]) -> Result<()> {
    let address = etcd.trim_start_matches("http://");
    for kind in kinds {
        for group in 0..population.count.div_ceil(TOGETHER) {
            let range = range(&format!("/registry/{kind}/{}{group:03}", population.prefix)).to_string();
            let answer = http::post(address, "/v3/kv/deleterange", &range).await?;
            ensure!(http::is_ok(&answer), "etcd does not delete: {answer}");
        }
    }
    Ok(())
}

/// The range of all keys that begin with `prefix`.
fn range(prefix: &str) -> serde_json::Value {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    json!({ "key": ByteString(prefix.into()), "range_end": ByteString(end) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_every_key_that_begins_so() {
        assert_eq!(range("/a/b-009"), json!({ "key": "L2EvYi0wMDk=", "range_end": "L2EvYi0wMDo=" }));
    }
}
