//! The operator under test: the real binary, run as a process of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::cluster::{ControlPlane, components_on};
use crate::process::{self, Guarded, Program};
use crate::{SYSTEM_NAMESPACE, paths};

/// How long the operator may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Operator {
    process: Guarded,
}

impl Operator {
    /// The binary under test: that of the same build, unless `E2E_OPERATOR` names another.
    pub fn binary() -> Result<PathBuf> {
        match env::var_os("E2E_OPERATOR") {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => paths::sibling("policy-baseline"),
        }
    }

    /// `policy-baseline run ARGS…` against the cluster of `kubeconfig`.
    pub fn start(plane: &ControlPlane, kubeconfig: &Path, args: &[&str], envs: &[(&str, &str)]) -> Result<Self> {
        let path = Self::binary()?;
        let filter = env::var("RUST_LOG").unwrap_or_else(|_| "info,policy_baseline=debug".to_owned());
        let mut all = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("POD_NAMESPACE".to_owned(), SYSTEM_NAMESPACE.to_owned()),
            ("RUST_LOG".to_owned(), filter),
            // Everything is on loopback, whatever the environment says of proxies.
            ("NO_PROXY".to_owned(), "127.0.0.1,localhost".to_owned()),
        ];
        if components_on() {
            all.push(("LABEL_NAMESPACES".to_owned(), "true".to_owned()));
        }
        // The nameservers of this machine are not those of any pod.
        let resolv_conf = plane.state_dir().join("resolv.conf");
        fs::write(&resolv_conf, "# no nameserver\n")?;
        let resolv_conf = format!("--resolv-conf={}", resolv_conf.display());
        let own_resolv_conf = args.iter().any(|arg| arg.starts_with("--resolv-conf"));
        all.extend(envs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        let process = Guarded::spawn(Program {
            name: "policy-baseline",
            path,
            args: ["run", "--admin-address=127.0.0.1:0"]
                .iter()
                .chain(if args.iter().any(|arg| arg.starts_with("--log-format")) {
                    [].iter()
                } else {
                    ["--log-format=text"].iter()
                })
                .chain(args)
                .map(|&arg| arg.to_owned())
                .chain((!own_resolv_conf).then_some(resolv_conf))
                .collect(),
            env: all,
            log: plane.state_dir().join(format!("operator-{}.log", plane.next_number())),
            grace: Duration::from_secs(2),
            remove: None,
        })?;
        Ok(Self { process })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGTERM, and the exit code that follows. Not ending in time is an error.
    pub fn stop(&mut self) -> Result<i32> {
        self.process.stop(STOP)
    }

    /// Any signal, and nothing is waited for.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid(), signal)
    }

    /// SIGKILL; returns once it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// The exit code, or 128 plus the signal, if it ends by itself within that time.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<Option<i32>> {
        self.process.wait(timeout)
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.process.exited(), Ok(None))
    }

    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.process.log_path()).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        paths::tail(self.process.log_path(), lines)
    }
}
