//! What every measurement needs: a control plane, both clients, and the watch that takes the times.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use policy_baseline::{Clients, Stack};

use super::calibrate;
use super::eye::Eye;
use super::progress::Progress;
use super::raw::{Raw, baseline};
use super::side::{Edits, Group, Population};
use crate::cluster::{ControlPlane, Options};
use crate::wait::{TIMEOUT, eventually};
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE};

/// Enough space for a run: etcd keeps every version until compaction.
const ETCD_QUOTA: &str = "--quota-backend-bytes=8589934592";

pub struct Bench {
    pub plane: ControlPlane,
    pub raw: Raw,
    pub eye: Eye,
    pub progress: Progress,
    /// The kubeconfig of the operator.
    pub kubeconfig: PathBuf,
    /// The number of namespaces at which our side works at the same time when it creates, deletes or applies.
    pub in_flight: usize,
    pub edits: Edits,
    populations: usize,
    /// The number of policies of others.
    pub foreign: usize,
}

impl Bench {
    /// Starts a control plane. `namespaces` is the number at the largest size.
    pub async fn start(namespaces: usize, mut progress: Progress) -> Result<Self> {
        progress.step("a control plane");
        let options = Options { etcd_args: vec![ETCD_QUOTA.to_owned()], ..Options::default() };
        let plane = ControlPlane::start(options).await?;
        ensure!(!plane.is_external(), "the bench needs a control plane of its own: unset E2E_KUBECONFIG");
        plane.run_kubectl(&["apply", "--server-side", "-k", "manifests/base"])?;
        // The controller manager works in each new namespace, and continues long after. The bench does not measure that, so the
        // controller manager is killed.
        plane.kill_controller_manager()?;
        let clients = connect(plane.admin_kubeconfig()).await?;
        let raw = Raw::new(clients.requests);
        for group in Group::OURS {
            let first = baseline(group, 0)?;
            eventually("the baseline is taken", TIMEOUT, async || raw.apply_baseline(&first).await.map(|()| true)).await?;
        }
        let eye = Eye::open(clients.watches).await?;
        let in_flight = calibrate::calibrate(&raw, namespaces, &mut progress).await?;
        let kubeconfig = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        let edits = Edits::default();
        Ok(Self { plane, raw, eye, progress, kubeconfig, in_flight, edits, populations: 0, foreign: 0 })
    }

    pub fn population(&mut self, group: Group, count: usize) -> Population {
        self.populations += 1;
        Population { prefix: format!("{}-{}-", group.label(), self.populations), group, count }
    }
}

/// Connects as that user with the operator's own client stack.
pub async fn connect(kubeconfig: &Path) -> Result<Clients> {
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    let clients = policy_baseline::connect(config)?;
    ensure!(clients.stack == Stack::Http2, "not the stack of the operator: {:?}", clients.stack);
    Ok(clients)
}
