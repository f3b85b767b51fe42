//! The control planes of one test binary. There are few of them; they are reused, and one test at a time uses each.
//!
//! A test never sees what another test left behind. The pool sweeps a used control plane before it lends it again. A control plane that
//! cannot be swept, or whose test failed, is not lent again.

use std::env;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cluster::{ControlPlane, Options};
use crate::sweep;

static SLOTS: OnceLock<Semaphore> = OnceLock::new();
static IDLE: Mutex<Vec<Arc<ControlPlane>>> = Mutex::new(Vec::new());

/// A control plane for one test. It goes back to the pool when dropped.
#[derive(Debug)]
pub struct Lease {
    plane: Arc<ControlPlane>,
    discard: AtomicBool,
    // Dropped last. So whoever waits for the slot finds the control plane idle, or gone.
    _slot: SemaphorePermit<'static>,
}

/// Waits for a free control plane, or starts one while there are fewer than `E2E_PARALLEL` (default: cores, at most 2).
pub async fn acquire() -> Result<Lease> {
    let slot = SLOTS.get_or_init(|| Semaphore::new(size())).acquire().await.context("the pool is closed")?;
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let plane = match idle {
        Some(plane) if plane.is_whole() => match sweep::sweep(&plane).await {
            Ok(sweep::Outcome::Clean) => Some(plane),
            Ok(sweep::Outcome::Replace) => None,
            Err(err) if plane.is_external() => return Err(err),
            Err(err) => {
                eprintln!("this control plane is not used again: {err:#}");
                None
            }
        },
        _ => None,
    };
    let plane = if let Some(plane) = plane {
        plane
    } else {
        let plane = ControlPlane::start(Options::default()).await?;
        if plane.is_external() {
            sweep::sweep(&plane).await?;
        }
        Arc::new(plane)
    };
    Ok(Lease { plane, discard: AtomicBool::new(false), _slot: slot })
}

/// Starts a control plane with these options. It ends with its test.
pub async fn acquire_with(options: Options) -> Result<Lease> {
    let slot = SLOTS.get_or_init(|| Semaphore::new(size())).acquire().await.context("the pool is closed")?;
    let plane = Arc::new(ControlPlane::start(options).await?);
    Ok(Lease { plane, discard: AtomicBool::new(true), _slot: slot })
}

impl Lease {
    /// Marks the control plane: it ends with the test instead of going back to the pool.
    pub fn discard(&self) {
        self.discard.store(true, Ordering::Relaxed);
    }
}

impl Deref for Lease {
    type Target = ControlPlane;
    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.discard.load(Ordering::Relaxed) && !thread::panicking() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&self.plane));
        }
    }
}

fn size() -> usize {
    if env::var_os("E2E_KUBECONFIG").is_some_and(|path| !path.is_empty()) {
        return 1;
    }
    let cores = thread::available_parallelism().map_or(1, Into::into);
    let asked = env::var("E2E_PARALLEL").ok().and_then(|value| value.parse().ok());
    asked.unwrap_or(cores.min(2)).max(1)
}
