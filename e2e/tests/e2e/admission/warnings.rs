//! What a tenant sees of a component that warns. kube's client returns no warnings, so these read the headers of an answer.

use http::{HeaderMap, Request};
use kube::Client;
use serde_json::Value;

use super::workloads::workloads;

/// One component's warnings in an answer: the last word of the name of the policy, and the text.
pub fn of_component(headers: &HeaderMap, component: &str) -> Vec<(String, String)> {
    let begins = format!("with binding 'policy-baseline-{component}-");
    let texts = headers.get_all("warning").iter().map(|warning| warning.to_str().unwrap());
    let of = |text: &str| {
        let (check, said) = text.split_once(&begins)?.1.split_once("': ").unwrap();
        Some((check.to_owned(), said.trim_end_matches('"').to_owned()))
    };
    texts.filter_map(of).collect()
}

/// Whether this component warns of the pod and of workloads with the template. Their bindings are created one after the other.
pub async fn are_given(client: &Client, component: &str, ns: &str, pod: &Value, template: &Value) -> bool {
    let [(_, of_workloads, workload), ..] = workloads(ns, template);
    !about(client, component, &format!("/api/v1/namespaces/{ns}/pods"), pod).await.is_empty()
        && !about(client, component, &of_workloads, &workload).await.is_empty()
}

/// The same about an object that is created by a dry run, without the names. Panics if the request is refused.
pub async fn about(client: &Client, component: &str, path: &str, object: &Value) -> Vec<String> {
    let request = Request::post(format!("{path}?dryRun=All")).header("content-type", "application/json");
    let answer = client.send(request.body(object.to_string().into_bytes().into()).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{path}: {} {object}", answer.status());
    of_component(answer.headers(), component).into_iter().map(|(_, said)| said).collect()
}
