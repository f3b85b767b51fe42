//! What a tenant sees of a component that warns: requests by hand, because kube's client returns no warnings.

use http::Request;
use kube::Client;
use serde_json::Value;

/// The texts of one component's warnings about an object that is created by a dry run. Each text is after the names of the policy and its
/// binding. Panics if the request is refused.
pub async fn about(client: &Client, component: &str, path: &str, object: &Value) -> Vec<String> {
    let request = Request::post(format!("{path}?dryRun=All")).header("content-type", "application/json");
    let answer = client.send(request.body(object.to_string().into_bytes().into()).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{path}: {} {object}", answer.status());
    let texts = answer.headers().get_all("warning").iter().map(|warning| warning.to_str().unwrap().replace("\\\"", "\""));
    let of = |text: String| {
        let (_, rest) = text.split_once(&format!("with binding 'policy-baseline-{component}-"))?;
        let (_, said) = rest.split_once("': ")?;
        Some(said.trim_end_matches('"').to_owned())
    };
    texts.filter_map(of).collect()
}
