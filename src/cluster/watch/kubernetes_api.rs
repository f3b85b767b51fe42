//! The Service and the EndpointSlice of the API server as one stream. An object that cannot be read is logged once and retried; it blocks
//! nothing else.

use std::{collections::BTreeSet, sync::Arc};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

use super::{backoff::WatchBackoff, kinds::WatchProblem, stream::watch_dynamic};
use crate::{
    cluster::telemetry::Telemetry,
    engine::facts::event::{Event, ListRefusal},
    policy::kubernetes_api::{ApiDestination, ApiEvent, ApiObject, ApiService, ApiSlice, NAME, NAMESPACE},
};

/// The events of both objects. The role of the operator allows these two names in this namespace, and nothing else there.
pub fn everything(client: &Client, telemetry: &Arc<dyn Telemetry>) -> impl Stream<Item = Event> + Send + use<> {
    let watch = |object: ApiObject| (client.clone(), object, WatchProblem::about(object.into_str(), false, telemetry));
    let both = [
        watched(watch(ApiObject::Service), |service: ApiService| service.destinations()),
        watched(watch(ApiObject::Slice), |slice: ApiSlice| slice.destinations()),
    ];
    stream::select_all(both).map(Event::KubernetesApi)
}

fn watched<K>(
    (client, object, mut problem): (Client, ApiObject, WatchProblem),
    destinations: fn(K) -> BTreeSet<ApiDestination>,
) -> BoxStream<'static, ApiEvent>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    watch_dynamic::<K>(&client, Some(NAMESPACE), config)
        .backoff(WatchBackoff::default())
        .filter_map(move |event| {
            let news = match event {
                Ok(event) => {
                    problem.recovered(&event);
                    Some(match event {
                        watcher::Event::Init => ApiEvent::ListBegins(object),
                        watcher::Event::InitDone => ApiEvent::ListEnds(object),
                        watcher::Event::InitApply(seen) | watcher::Event::Apply(seen) => {
                            ApiEvent::Seen(object, destinations(seen))
                        }
                        watcher::Event::Delete(_) => ApiEvent::Gone(object),
                    })
                }
                Err(error) => {
                    let (refusal, why) = problem.failed(&error);
                    (refusal != ListRefusal::Unavailable).then_some(ApiEvent::Unreadable(object, why))
                }
            };
            futures::future::ready(news)
        })
        .boxed()
}
