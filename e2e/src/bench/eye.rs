//! One watch on every NetworkPolicy. It records when each event arrived. It decodes only the parts of an event that it needs, so that
//! it uses little of the machine.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, WatchEvent};
use kube::{Api, Client};
use policy_baseline::Rendered;
use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::progress::Progress;
use crate::wait::TIMEOUT;

/// How long one watch lasts, in seconds: longer than the bench.
const WATCH_SECONDS: u32 = 2 * 60 * 60;
/// Progress is reported only if more policies than this are awaited.
const FEW: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Added,
    Modified,
    Deleted,
}

/// One event of the watch.
pub struct Sighting {
    pub at: Instant,
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub version: u64,
}

/// What [`Eye::until_all`] waits for.
pub struct Wanted<'a> {
    /// The prefix of the namespace names.
    pub prefix: &'a str,
    pub policies: &'a [Rendered],
    pub kind: Kind,
    /// Only events with a higher resourceVersion count.
    pub after: u64,
    /// The number of different policies to wait for.
    pub count: usize,
}

/// The events of the watch, in order. Each is delivered once.
pub struct Eye {
    client: Client,
    incoming: UnboundedReceiver<Sighting>,
    // Dropping it ends the watch.
    watch: JoinSet<Result<()>>,
}

impl Eye {
    /// Opens the watch. It delivers every event from now on.
    pub async fn open(client: Client) -> Result<Self> {
        let (sender, incoming) = unbounded_channel();
        let version = newest(&client).await?;
        let mut watch = JoinSet::new();
        watch.spawn(follow(client.clone(), version, sender));
        Ok(Self { client, incoming, watch })
    }

    /// The current resourceVersion of the cluster. Later events have a higher one.
    pub async fn now(&self) -> Result<u64> {
        newest(&self.client).await
    }

    /// The next event that `wanted` accepts. Discards the events before it.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Sighting) -> bool) -> Result<Sighting> {
        loop {
            let sighting = self.next().await?;
            if wanted(&sighting) {
                return Ok(sighting);
            }
        }
    }

    /// When the last of the wanted policies was seen.
    pub async fn until_all(&mut self, wanted: &Wanted<'_>, progress: &mut Progress) -> Result<Instant> {
        let mut seen = HashSet::new();
        loop {
            let sighting = self.next().await.with_context(|| format!("{} of {} policies were seen", seen.len(), wanted.count))?;
            let counts = sighting.kind == wanted.kind
                && sighting.version > wanted.after
                && sighting.namespace.starts_with(wanted.prefix)
                && wanted.policies.iter().any(|policy| policy.name == sighting.name);
            if counts {
                let at = sighting.at;
                seen.insert((sighting.namespace, sighting.name));
                if seen.len() == wanted.count {
                    return Ok(at);
                }
                if wanted.count > FEW {
                    progress.done(seen.len(), wanted.count);
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Sighting> {
        match timeout(TIMEOUT, self.incoming.recv()).await {
            Err(_) => bail!("nothing more was seen within {TIMEOUT:?}"),
            Ok(Some(sighting)) => Ok(sighting),
            Ok(None) => match self.watch.join_next().await {
                Some(Ok(Err(err))) => Err(err.context("the watch has ended")),
                _ => bail!("the watch has ended"),
            },
        }
    }
}

async fn newest(client: &Client) -> Result<u64> {
    let list = Api::<NetworkPolicy>::all(client.clone()).list_metadata(&ListParams::default().limit(1)).await?;
    list.metadata.resource_version.unwrap_or_default().parse().context("the version of a list")
}

#[derive(Clone, Deserialize)]
struct Policy {
    metadata: Metadata,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    resource_version: String,
}

/// Follows the watch. After the end of a watch it continues from the last event.
async fn follow(client: Client, mut version: u64, sender: UnboundedSender<Sighting>) -> Result<()> {
    loop {
        let uri = format!(
            "/apis/networking.k8s.io/v1/networkpolicies?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        );
        let events = client.request_events::<Policy>(http::Request::get(uri).body(Vec::new())?).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.try_next().await? {
            let at = Instant::now();
            let (kind, policy) = match event {
                WatchEvent::Added(policy) => (Kind::Added, policy),
                WatchEvent::Modified(policy) => (Kind::Modified, policy),
                WatchEvent::Deleted(policy) => (Kind::Deleted, policy),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version.parse().context("the version of a bookmark")?;
                    continue;
                }
                WatchEvent::Error(status) => bail!("{}", status.message),
            };
            let Metadata { namespace, name, resource_version } = policy.metadata;
            version = resource_version.parse().context("the version of a policy")?;
            if sender.send(Sighting { at, kind, namespace, name, version }).is_err() {
                return Ok(());
            }
        }
    }
}
