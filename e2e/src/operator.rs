//! The operator under test: the real binary, in a process of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::cluster::{ControlPlane, components_on};
use crate::process::{self, Guarded, Program};
use crate::{SYSTEM_NAMESPACE, paths};

/// The longest time until the operator has ended after SIGTERM.
const STOP: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Operator {
    process: Guarded,
}

impl Operator {
    /// The binary under test: the one of the same build, unless `E2E_OPERATOR` names another.
    pub fn binary() -> Result<PathBuf> {
        match env::var_os("E2E_OPERATOR") {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => paths::sibling("policy-baseline"),
        }
    }

    /// Starts `policy-baseline run ARGS…` for the cluster of `kubeconfig`.
    pub fn start(plane: &ControlPlane, kubeconfig: &Path, args: &[&str], envs: &[(&str, &str)]) -> Result<Self> {
        let path = Self::binary()?;
        let filter = env::var("RUST_LOG").unwrap_or_else(|_| "info,policy_baseline=debug".to_owned());
        let mut all = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("POD_NAMESPACE".to_owned(), SYSTEM_NAMESPACE.to_owned()),
            ("RUST_LOG".to_owned(), filter),
            // Everything is on loopback, so ignore the proxies of the environment.
            ("NO_PROXY".to_owned(), "127.0.0.1,localhost".to_owned()),
        ];
        if components_on() {
            all.push(("LABEL_NAMESPACES".to_owned(), "true".to_owned()));
        }
        // The nameservers of this machine are not those of the pods.
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

    /// Sends SIGTERM. Returns the exit code. It is an error if the operator does not end in time.
    pub fn stop(&mut self) -> Result<i32> {
        self.process.stop(STOP)
    }

    /// Sends any signal, and does not wait.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid(), signal)
    }

    /// Sends SIGKILL. Returns once the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Waits until it ends by itself. Returns the exit code, or 128 plus the signal. None after the timeout.
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
