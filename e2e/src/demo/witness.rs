//! Our own watch on every NetworkPolicy. It records when each event arrived.
//!
//! It sees what the API server sends to everyone, and nothing from the operator.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Event, watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::wait::TIMEOUT;

/// One event of the watch.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub at: Instant,
    pub gone: bool,
    pub policy: NetworkPolicy,
}

impl Sighting {
    pub fn namespace(&self) -> &str {
        self.policy.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.policy.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.policy.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace() == namespace && self.name() == name
    }

    /// Whether the policy exists and has the same spec as in `then`.
    pub fn allows_what(&self, then: &Self) -> bool {
        !self.gone && self.policy.spec == then.policy.spec
    }

    /// The time from that moment to this sighting. Zero if the sighting was earlier.
    pub fn after(&self, moment: Instant) -> Duration {
        self.at.saturating_duration_since(moment)
    }
}

#[derive(Debug)]
pub struct Witness {
    seen: Vec<Sighting>,
    incoming: UnboundedReceiver<Sighting>,
    // Dropping it ends the watch.
    _watch: JoinSet<()>,
}

impl Witness {
    /// Returns once the first list of the watch is complete. No later event is missed.
    pub async fn new(client: Client) -> Result<Self> {
        let (sender, incoming) = unbounded_channel();
        let (standing, stands) = tokio::sync::oneshot::channel();
        let mut standing = Some(standing);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let events = watcher(Api::<NetworkPolicy>::all(client), Config::default().any_semantic()).default_backoff();
            tokio::pin!(events);
            while let Some(event) = events.next().await {
                let at = Instant::now();
                let (gone, policy) = match event {
                    Ok(Event::Apply(policy) | Event::InitApply(policy)) => (false, policy),
                    Ok(Event::Delete(policy)) => (true, policy),
                    Ok(Event::InitDone) => {
                        let _ = standing.take().map(|standing| standing.send(()));
                        continue;
                    }
                    // The watcher tries again by itself. Whoever waits for a sighting has a timeout.
                    Ok(Event::Init) | Err(_) => continue,
                };
                if sender.send(Sighting { at, gone, policy }).is_err() {
                    break;
                }
            }
        });
        tokio::time::timeout(TIMEOUT, stands).await.context("the watch on NetworkPolicies does not stand")??;
        Ok(Self { seen: Vec::new(), incoming, _watch: task })
    }

    /// Waits until `find` finds something in all sightings so far.
    pub async fn until<T>(&mut self, what: &str, find: impl Fn(&[Sighting]) -> Option<T>) -> Result<T> {
        let cap = Instant::now() + TIMEOUT;
        loop {
            if let Some(found) = find(&self.seen) {
                return Ok(found);
            }
            timeout_at(cap, self.next()).await.map_err(|_| anyhow!("{what}: not seen within {TIMEOUT:?}"))??;
        }
    }

    /// The next event with a new resourceVersion, and the event of the same policy before it. A repeated list yields no events.
    pub async fn next(&mut self) -> Result<(Option<Sighting>, Sighting)> {
        loop {
            let sighting = self.incoming.recv().await.context("the watch on NetworkPolicies has ended")?;
            let before = self.seen.iter().rev().find(|seen| seen.is(sighting.namespace(), sighting.name())).cloned();
            let version = |of: &Sighting| of.policy.metadata.resource_version.clone();
            if before.as_ref().is_some_and(|before| version(before) == version(&sighting)) {
                continue;
            }
            self.seen.push(sighting.clone());
            return Ok((before, sighting));
        }
    }

    /// The current state of a policy, according to our watch. None if it is gone.
    pub fn latest(&self, namespace: &str, name: &str) -> Option<&Sighting> {
        self.seen.iter().rev().find(|sighting| sighting.is(namespace, name)).filter(|sighting| !sighting.gone)
    }
}
