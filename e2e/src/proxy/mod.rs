//! A proxy between one client and the API server. It terminates TLS and can change requests and responses.
//!
//! It passes everything that no rule matches unchanged: it streams bodies, supports HTTP/2 and HTTP/1.1, and keeps the client's own
//! credentials. It runs in a thread of its own, so a test that blocks does not hold it up. It does not judge what is correct.

mod answer;
mod asked;
mod forward;
mod rules;
mod serve;
mod shared;
mod upstream;
mod watch;

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::sync::{oneshot, watch as signal};

pub use asked::{Asked, Verb};
pub use rules::{EventFault, Fault, Moment, When};
pub use shared::{Exchange, Release};

use crate::ControlPlane;
use crate::wait::{TIMEOUT, eventually};
use rules::Rule;
use shared::{Shared, State};
use upstream::Upstream;

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Debug for Proxy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy in front of the API server of this control plane, on a free loopback port.
    pub fn start(plane: &ControlPlane) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            upstream: Upstream::new(plane)?,
            connections: signal::Sender::new(0),
            watches: signal::Sender::new(0),
            released: signal::Sender::new((0, Release::Discard)),
        });
        let acceptor = serve::acceptor(plane)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("listen")?;
        listener.set_nonblocking(true).context("listen")?;
        let address = listener.local_addr().context("listen")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let (stop, stopped) = oneshot::channel();
        let serves = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve::run(listener, acceptor, serves) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Writes a copy of a kubeconfig that goes through the proxy.
    pub fn kubeconfig(&self, of: &Path) -> Result<PathBuf> {
        let text = fs::read(of).with_context(|| format!("read {}", of.display()))?;
        let mut config: Value = serde_json::from_slice(&text).context("a kubeconfig of the harness")?;
        config["clusters"][0]["cluster"]["server"] = format!("https://{}", self.address).into();
        let path = of.with_extension(format!("{}.kubeconfig", self.address.port()));
        fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Names the client. New connections get this name in the exchanges, and as user agent in the audit log.
    pub fn call(&self, client: &str) {
        self.state().client = client.into();
    }

    /// From now on the proxy acts like an API server without streaming lists. It rejects such a request, and the client then lists in
    /// pages.
    pub fn know_no_streams(&self) {
        self.state().knows_no_streams = true;
    }

    // Faults.

    pub fn on(&self, about: impl Fn(&Asked) -> bool + Send + 'static, when: When, fault: Fault) {
        let about = move |asked: &Asked, _: &Value| about(asked);
        self.state().rules.push(Rule::new(Box::new(about), when, fault));
    }

    /// Adds a rule for events of watches. `about` gets the request of the watch, and the event as the API server sent it.
    pub fn on_event(&self, about: impl Fn(&Asked, &Value) -> bool + Send + 'static, when: When, fault: EventFault) {
        self.state().event_rules.push(Rule::new(Box::new(about), when, fault));
    }

    /// Removes all rules. A fault that has already begun continues.
    pub fn calm(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.event_rules.clear();
    }

    /// How many times a rule has struck.
    pub fn struck(&self) -> usize {
        self.state().struck
    }

    /// Cuts every connection, with all requests on it.
    pub fn cut_connections(&self) {
        self.shared.connections.send_modify(|cuts| *cuts += 1);
    }

    /// Breaks every watch.
    pub fn cut_watches(&self) {
        self.shared.watches.send_modify(|cuts| *cuts += 1);
    }

    /// From now on, remembers the first response to each list, for [`Fault::Stale`].
    pub fn remember_lists(&self) {
        let mut state = self.state();
        state.lists.clear();
        state.remembers = true;
    }

    /// Whether at least this many lists are remembered.
    pub fn remembers(&self, lists: usize) -> bool {
        self.state().lists.len() >= lists
    }

    // Requests that are held.

    pub fn held(&self) -> usize {
        self.state().held
    }

    pub async fn until_held(&self) -> Result<()> {
        eventually("the proxy holds a request", TIMEOUT, async || self.held() > 0).await
    }

    /// Releases all held requests. Returns once they have been forwarded or discarded.
    pub async fn release(&self, how: Release) -> Result<()> {
        self.shared.released.send_modify(|(times, release)| (*times, *release) = (*times + 1, how));
        eventually("the proxy holds nothing", TIMEOUT, async || self.held() == 0).await
    }

    // What was asked.

    /// The number of requests so far. Pass it to [`Self::since`] for the later ones.
    pub fn mark(&self) -> usize {
        self.state().exchanges.len()
    }

    pub fn since(&self, mark: usize) -> Vec<Exchange> {
        self.state().exchanges[mark..].to_vec()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the proxy panicked");
        }
    }
}
