//! Measurement 9: the cost of more in each namespace. Either a Service, whose metadata the operator watches, or six allows, which make nine
//! policies.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request as Requests;
use serde_json::json;

use super::figures::Point;
use super::raw::each;
use super::setup::Bench;
use super::side::Population;
use super::subject::Subject;

impl Bench {
    /// Creates a Service in each namespace. Then measures the rest of an operator that runs already.
    pub async fn with_services(&self, population: &Population, subject: &Subject, time: Duration) -> Result<Point> {
        each(population.names(), self.in_flight, async |namespace: String| {
            // Without an address of its own, because an address would have to be free.
            let spec = json!({ "clusterIP": "None", "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 8080 }] });
            let service = json!({ "metadata": { "name": "web", "labels": { "app.kubernetes.io/name": "web" } }, "spec": spec });
            let requests = Requests::new(Service::url_path(&(), Some(&namespace)));
            let request = requests.create(&PostParams::default(), serde_json::to_vec(&service)?)?;
            self.raw.send(request).await.with_context(|| format!("create a Service in {namespace}")).map(drop)
        })
        .await?;
        let rest = Some(self.rest(subject, time).await?);
        Ok(Point { services: population.count, rest, ..Point::new(population.group, population.count) })
    }
}
