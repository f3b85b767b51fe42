//! One watch on every NetworkPolicy, and when each of its events reached us.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::wait::TIMEOUT;

struct Sighting {
    at: Instant,
    namespace: String,
    name: String,
    version: String,
}

/// What the watch showed last of each policy, by namespace.
pub struct Eye {
    seen: HashMap<String, HashMap<String, (Instant, String)>>,
    incoming: UnboundedReceiver<Sighting>,
    // Ends with the eye.
    _watch: JoinSet<()>,
}

impl Eye {
    /// Returns once the watch stands.
    pub async fn open(client: Client) -> Result<Self> {
        let (sender, incoming) = unbounded_channel();
        let (stands, standing) = tokio::sync::oneshot::channel();
        let mut stands = Some(stands);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut events = watcher(Api::<NetworkPolicy>::all(client), Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let at = Instant::now();
                let policy = match event {
                    Ok(Event::Apply(policy) | Event::InitApply(policy)) => policy,
                    Ok(Event::InitDone) => {
                        let _ = stands.take().map(|stands| stands.send(()));
                        continue;
                    }
                    Ok(Event::Init | Event::Delete(_)) | Err(_) => continue,
                };
                let (namespace, version) =
                    (policy.namespace().unwrap_or_default(), policy.resource_version().unwrap_or_default());
                if sender.send(Sighting { at, namespace, name: policy.name_any(), version }).is_err() {
                    break;
                }
            }
        });
        timeout(TIMEOUT, standing).await.context("the watch does not stand")??;
        Ok(Self { seen: HashMap::new(), incoming, _watch: task })
    }

    /// When the third policy of a namespace was seen.
    pub async fn until_three(&mut self, namespace: &str) -> Result<Instant> {
        loop {
            if let Some(policies) = self.seen.get(namespace).filter(|policies| policies.len() >= 3) {
                return policies.values().map(|(at, _)| *at).max().context("no policy");
            }
            self.next().await.with_context(|| format!("{namespace} has no three policies"))?;
        }
    }

    /// When that very version was seen.
    pub async fn until_version(&mut self, policy: &NetworkPolicy) -> Result<Instant> {
        let (namespace, version) = (policy.namespace().unwrap_or_default(), policy.resource_version().unwrap_or_default());
        loop {
            let known = self.seen.get(&namespace).and_then(|policies| policies.get(&policy.name_any()));
            if let Some((at, _)) = known.filter(|(_, seen)| *seen == version) {
                return Ok(*at);
            }
            self.next().await?;
        }
    }

    /// When the next event of that policy was seen.
    pub async fn until_after(&mut self, namespace: &str, name: &str) -> Result<Instant> {
        loop {
            let (of, policy, at) = self.next().await?;
            if of == namespace && policy == name {
                return Ok(at);
            }
        }
    }

    async fn next(&mut self) -> Result<(String, String, Instant)> {
        let Ok(sighting) = timeout(TIMEOUT, self.incoming.recv()).await else { bail!("nothing was seen within {TIMEOUT:?}") };
        let Sighting { at, namespace, name, version } = sighting.context("the watch has ended")?;
        self.seen.entry(namespace.clone()).or_default().insert(name.clone(), (at, version));
        Ok((namespace, name, at))
    }
}
