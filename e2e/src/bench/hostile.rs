//! What a hostile tenant may leave in each namespace: a policy that opens everything, and one that looks like the operator's.

use anyhow::{Context, Result};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use kube::api::{DeleteParams, PostParams};
use kube::core::Request as Requests;
use policy_baseline::{LABEL_ID, LABEL_MANAGED_BY, MANAGER, own_id};
use serde_json::{Value, json};

use super::raw::{Raw, each};
use super::side::Population;

const OPEN: &str = "hostile-open";
const FORGED: &str = "hostile-forged";
const IN_FLIGHT: usize = 16;

/// Creates both in each namespace.
pub async fn add(raw: &Raw, population: &Population) -> Result<()> {
    each(population.names(), IN_FLIGHT, async |namespace| {
        for policy in policies(&namespace) {
            let request = requests(&namespace).create(&PostParams::default(), serde_json::to_vec(&policy)?)?;
            raw.send(request).await.with_context(|| format!("a hostile policy in {namespace}"))?;
        }
        Ok(())
    })
    .await
}

/// Deletes them again.
pub async fn remove(raw: &Raw, population: &Population) -> Result<()> {
    each(population.names(), IN_FLIGHT, async |namespace| {
        for name in [OPEN, FORGED] {
            raw.send(requests(&namespace).delete(name, &DeleteParams::default())?).await?;
        }
        Ok(())
    })
    .await
}

fn requests(namespace: &str) -> Requests {
    Requests::new(NetworkPolicy::url_path(&(), Some(namespace)))
}

fn policies(namespace: &str) -> [Value; 2] {
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}] });
    let labels = json!({
        LABEL_MANAGED_BY: MANAGER, LABEL_ID: own_id(namespace, FORGED), "policybaseline.io/baseline": "nonexistent",
    });
    [
        json!({ "metadata": { "name": OPEN }, "spec": spec }),
        json!({ "metadata": { "name": FORGED, "labels": labels }, "spec": spec }),
    ]
}
