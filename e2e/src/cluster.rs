//! A control plane for tests: etcd, kube-apiserver and kube-controller-manager on free loopback ports.
//!
//! Each control plane has its own state, certificate authority and users. Control planes share nothing. With `E2E_KUBECONFIG` an
//! external cluster is used instead. Then nothing is started, and calls that need the processes return an error.
//! This type holds only processes and paths, nothing of an async runtime. So tests with different runtimes can share it.
//! One file: the processes of a control plane start and stop in one order.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::BREAK_GLASS;
use crate::audit::AuditLog;
use crate::custom_kinds::{self, is_established};
use crate::kubeconfig::{certificate_user, client, current_context, external_kubeconfig, file_name, write_kubeconfig};
use crate::paths;
use crate::pki::{Files, Pki};
use crate::process::{Guarded, Program};
use crate::state_dir::{StateDir, keep_always};
use crate::wait::eventually;

/// The longest time until the API server is ready.
const READY: Duration = Duration::from_mins(1);
/// The longest time until a component has ended after SIGTERM.
/// kube-apiserver itself gives open requests `--request-timeout`, which is 60 s. It was seen once to need more than 20 s.
const STOP: Duration = Duration::from_secs(75);
/// The lifetime of a ServiceAccount token, in seconds.
const TOKEN_SECONDS: i64 = 8 * 60 * 60;
/// Another program may take a port between the check and the start. Then the start is tried again from the beginning.
const ATTEMPTS: u32 = 3;

const SERVER_NAMES: [&str; 5] = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];

const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
    serviceaccount-token-controller,root-ca-certificate-publisher-controller,resourcequota-controller,\
    clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller";

/// The audit policy: one entry for each request that has ended, except the internal requests of the control plane.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  users: ["system:apiserver"]
- level: None
  users: ["system:kube-controller-manager"]
  verbs: [get, list, watch]
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
  verbs: [get, list, watch]
- level: None
  nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
- level: Metadata
"#;

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More flags for kube-apiserver, such as `--feature-gates=…`.
    pub apiserver_args: Vec<String>,
    /// More flags for etcd.
    pub etcd_args: Vec<String>,
    /// All controllers use one identity, instead of one identity for each as in most clusters.
    pub shared_credentials: bool,
    /// Controllers that run in addition to the usual ones.
    pub more_controllers: Vec<&'static str>,
}

#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: first the processes, then their state.
    kind: Kind,
    state: StateDir,
    admin_kubeconfig: PathBuf,
    numbers: AtomicU32,
    start_time: Duration,
}

#[derive(Debug)]
enum Kind {
    Local(Box<Local>),
    External,
}

#[derive(Debug)]
struct Local {
    binaries: PathBuf,
    pki: Pki,
    serving: Files,
    dir: PathBuf,
    etcd_url: String,
    etcd_port: u16,
    peer_port: u16,
    port: u16,
    options: Options,
    processes: Mutex<Processes>,
}

#[derive(Debug, Default)]
struct Processes {
    // The API server is dropped first, so that it never loses its etcd.
    controller_manager: Option<Guarded>,
    apiserver: Option<Guarded>,
    etcd: Option<Guarded>,
}

/// Whether the suites run with every admission component installed. Then tests make drift as a member of the break-glass group.
pub fn components_on() -> bool {
    env::var_os("E2E_COMPONENTS").is_some_and(|value| value == "1")
}

impl ControlPlane {
    pub async fn start(options: Options) -> Result<Self> {
        if let Some(kubeconfig) = external_kubeconfig() {
            return Self::external(&kubeconfig);
        }
        let mut attempt = 1;
        loop {
            match Self::start_once(options.clone()).await {
                Err(err) if attempt < ATTEMPTS && format!("{err:#}").contains("address already in use") => attempt += 1,
                done => return done,
            }
        }
    }

    fn external(kubeconfig: &Path) -> Result<Self> {
        let admin_kubeconfig =
            fs::canonicalize(kubeconfig).with_context(|| format!("E2E_KUBECONFIG={}", kubeconfig.display()))?;
        Ok(Self {
            kind: Kind::External,
            state: StateDir::create_external()?,
            admin_kubeconfig,
            numbers: AtomicU32::new(1),
            start_time: Duration::ZERO,
        })
    }

    async fn start_once(options: Options) -> Result<Self> {
        let started = Instant::now();
        let binaries = paths::control_plane_binaries()?;
        let state = StateDir::create()?;
        let dir = state.path.clone();
        let pki = Pki::create(&dir.join("pki"))?;
        let serving = pki.server("kube-apiserver", SERVER_NAMES.map(str::to_owned).to_vec())?;
        let [client_port, peer_port, port] = free_ports()?;
        let local = Local {
            binaries,
            pki,
            serving,
            etcd_url: format!("http://127.0.0.1:{client_port}"),
            etcd_port: client_port,
            peer_port,
            port,
            options,
            processes: Mutex::default(),
            dir: dir.clone(),
        };
        let mut groups = vec!["system:masters"];
        groups.extend(components_on().then_some(BREAK_GLASS));
        let admin = local.pki.client("admin", "admin", &groups)?;
        let admin_kubeconfig = local.write_kubeconfig("admin", &certificate_user(&admin))?;
        fs::write(dir.join("audit-policy.yaml"), AUDIT_POLICY).context("write the audit policy")?;

        let mut plane = Self {
            kind: Kind::Local(Box::new(local)),
            state,
            admin_kubeconfig,
            numbers: AtomicU32::new(1),
            start_time: Duration::ZERO,
        };
        let local = plane.local()?;
        // etcd must listen first: an API server that finds no etcd waits a second before it tries again.
        plane.listen_etcd().await?;
        local.processes().apiserver = Some(local.spawn_apiserver()?);
        plane.wait_ready().await?;
        local.processes().controller_manager = Some(local.spawn_controller_manager()?);
        plane.wait_controllers().await?;
        plane.start_time = started.elapsed();
        Ok(plane)
    }

    /// The time from the start until the controller-manager works. Zero for an external cluster.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    pub fn is_external(&self) -> bool {
        matches!(self.kind, Kind::External)
    }

    pub fn state_dir(&self) -> &Path {
        &self.state.path
    }

    /// Keeps the state directory after the end, so that somebody can inspect it.
    pub fn keep_state(&self) {
        self.state.keep.store(true, Ordering::Relaxed);
    }

    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    pub async fn admin(&self) -> Result<Client> {
        client(&self.admin_kubeconfig, None).await
    }

    /// Writes a kubeconfig with a new token of an existing ServiceAccount.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let api: Api<ServiceAccount> = Api::namespaced(self.admin().await?, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let answer = api
            .create_token_request(name, &kube::api::PostParams::default(), &request)
            .await
            .with_context(|| format!("ask for a token of the ServiceAccount {namespace}/{name}"))?;
        let token = answer.status.context("the apiserver gave no token")?.token;
        let file = format!("sa-{namespace}-{name}-{}", self.next_number());
        self.derive_kubeconfig(&file, &json!({ "token": token }))
    }

    /// Writes a kubeconfig of a user that needs no account. It uses a client certificate; for an external cluster it uses
    /// impersonation. NB kube-rs does not read impersonation from a kubeconfig (kubectl does): for a client in Rust use [`Self::user`].
    pub fn user_kubeconfig(&self, name: &str, groups: &[&str]) -> Result<PathBuf> {
        let file = format!("user-{}-{}", file_name(name), self.next_number());
        match &self.kind {
            Kind::Local(local) => {
                let files = local.pki.client(&file, name, groups)?;
                local.write_kubeconfig(&file, &certificate_user(&files))
            }
            Kind::External => {
                let mut user = self.external_user()?;
                user["as"] = json!(name);
                user["as-groups"] = json!(groups);
                self.derive_kubeconfig(&file, &user)
            }
        }
    }

    pub async fn user(&self, name: &str, groups: &[&str]) -> Result<Client> {
        match &self.kind {
            Kind::Local(_) => client(&self.user_kubeconfig(name, groups)?, None).await,
            Kind::External => client(&self.admin_kubeconfig, Some((name, groups))).await,
        }
    }

    pub fn kubectl(&self) -> Command {
        let built = paths::control_plane_binaries().map(|dir| dir.join("kubectl"));
        let mut command = Command::new(built.unwrap_or_else(|_| PathBuf::from("kubectl")));
        // kubectl caches discovery by address, and ports are used again. So each control plane has its own cache.
        command.env("KUBECONFIG", &self.admin_kubeconfig).env("KUBECACHEDIR", self.state.path.join("kubectl"));
        command.current_dir(paths::repo());
        command
    }

    /// Runs `kubectl ARGS…`. Returns its stdout; on failure the error contains its stderr.
    pub fn run_kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.kubectl().args(args).output().context("start kubectl")?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The audit log. None for an external cluster.
    pub fn audit(&self) -> Option<AuditLog> {
        let log = || AuditLog::new(self.state.path.join("audit.log"));
        (!self.is_external()).then(log)
    }

    /// The name and the pid of each process, then of their guards.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let mut pids = BTreeMap::new();
        if let Kind::Local(local) = &self.kind {
            let processes = local.processes();
            let all = [
                ("etcd", &processes.etcd),
                ("kube-apiserver", &processes.apiserver),
                ("kube-controller-manager", &processes.controller_manager),
            ];
            for (name, process) in all {
                if let Some(process) = process {
                    pids.insert(name.to_owned(), process.pid());
                    pids.insert(format!("{name}-guard"), process.guard_pid());
                }
            }
        }
        pids
    }

    /// Sends SIGTERM to kube-apiserver and waits until it has ended. etcd and kube-controller-manager keep running.
    pub fn stop_apiserver(&self) -> Result<()> {
        let process = self.local()?.processes().apiserver.take();
        process.context("kube-apiserver does not run")?.stop(STOP).map(|_| ())
    }

    /// Sends SIGKILL to kube-apiserver and waits until it has ended.
    pub fn kill_apiserver(&self) -> Result<()> {
        let process = self.local()?.processes().apiserver.take();
        process.context("kube-apiserver does not run")?.kill()
    }

    /// Starts kube-apiserver again, on the same port with the same state. Returns when it is ready.
    pub async fn start_apiserver(&self) -> Result<()> {
        let local = self.local()?;
        if local.processes().apiserver.is_some() {
            bail!("kube-apiserver runs already");
        }
        let process = local.spawn_apiserver()?;
        local.processes().apiserver = Some(process);
        self.wait_ready().await
    }

    /// The URL of etcd.
    pub fn etcd_url(&self) -> Result<&str> {
        Ok(&self.local()?.etcd_url)
    }

    /// Sends SIGKILL to etcd and waits until it has ended. Its data stays.
    pub fn kill_etcd(&self) -> Result<()> {
        let process = self.local()?.processes().etcd.take();
        process.context("etcd does not run")?.kill()
    }

    /// Starts etcd again, with the same data. Returns when the API server is ready.
    pub async fn start_etcd(&self) -> Result<()> {
        if self.local()?.processes().etcd.is_some() {
            bail!("etcd runs already");
        }
        self.listen_etcd().await?;
        self.wait_ready().await
    }

    /// etcd again, with the data that is in its directory now; returns when it listens, though no API server runs.
    pub async fn start_etcd_alone(&self) -> Result<()> {
        if self.local()?.processes().etcd.is_some() {
            bail!("etcd runs already");
        }
        self.listen_etcd().await
    }

    async fn listen_etcd(&self) -> Result<()> {
        let local = self.local()?;
        let process = local.spawn_etcd()?;
        local.processes().etcd = Some(process);
        self.wait("etcd listens", async || Ok(TcpStream::connect(("127.0.0.1", local.etcd_port)).is_ok())).await
    }

    /// The file with the certificate authorities of the API server.
    pub fn authority(&self) -> Result<PathBuf> {
        Ok(self.local()?.pki.authority())
    }

    /// Host and port of the API server.
    pub fn address(&self) -> Result<String> {
        Ok(format!("127.0.0.1:{}", self.local()?.port))
    }

    /// The files with the serving certificate and the key of the API server.
    pub fn serving(&self) -> Result<(&Path, &Path)> {
        let serving = &self.local()?.serving;
        Ok((&serving.certificate, &serving.key))
    }

    /// Gives the API server a certificate of another authority, which it uses from its next start on. The harness trusts both
    /// authorities. Returns the file of the new one.
    pub fn change_authority(&self) -> Result<PathBuf> {
        let local = self.local()?;
        let next = Pki::create(&local.dir.join(format!("pki-{}", self.next_number())))?;
        let serving = next.server("kube-apiserver", SERVER_NAMES.map(str::to_owned).to_vec())?;
        fs::copy(&serving.certificate, &local.serving.certificate).context("replace the certificate")?;
        fs::copy(&serving.key, &local.serving.key).context("replace the key")?;
        let [old, new] = [local.pki.authority(), next.authority()].map(fs::read_to_string);
        fs::write(local.pki.authority(), format!("{}{}", old?, new?)).context("add the authority")?;
        Ok(next.authority())
    }

    pub fn kill_controller_manager(&self) -> Result<()> {
        let process = self.local()?.processes().controller_manager.take();
        process.context("kube-controller-manager does not run")?.kill()
    }

    pub fn start_controller_manager(&self) -> Result<()> {
        let local = self.local()?;
        if local.processes().controller_manager.is_some() {
            bail!("kube-controller-manager runs already");
        }
        let process = local.spawn_controller_manager()?;
        local.processes().controller_manager = Some(process);
        Ok(())
    }

    /// Returns an error that names a process that has ended by itself. Does not check a process that was stopped on purpose.
    pub fn check_alive(&self) -> Result<()> {
        match &self.kind {
            Kind::Local(local) => local.check_alive(),
            Kind::External => Ok(()),
        }
    }

    /// Whether all processes run.
    pub(crate) fn is_whole(&self) -> bool {
        match &self.kind {
            Kind::Local(local) => local.check_alive().is_ok() && local.processes().all_there(),
            Kind::External => true,
        }
    }

    pub(crate) fn next_number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn local(&self) -> Result<&Local> {
        match &self.kind {
            Kind::Local(local) => Ok(local),
            Kind::External => bail!("the cluster of E2E_KUBECONFIG is not ours: its processes cannot be controlled"),
        }
    }

    async fn wait_ready(&self) -> Result<()> {
        let admin = self.admin().await?;
        self.wait("kube-apiserver answers /readyz", async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            Ok(admin.request_text(request).await?.starts_with("ok"))
        })
        .await?;
        let crds: Api<CustomResourceDefinition> = Api::all(admin.clone());
        self.wait("kube-apiserver serves the custom kinds", async || {
            let all = crds.list(&ListParams::default()).await?;
            custom_kinds::list_each(&admin, all.iter().filter(|crd| is_established(crd))).await?;
            Ok(true)
        })
        .await
    }

    /// Waits until the controllers have created the first objects that a new namespace needs.
    async fn wait_controllers(&self) -> Result<()> {
        let admin = self.admin().await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        let maps: Api<ConfigMap> = Api::namespaced(admin, "default");
        self.wait("the controllers of kube-controller-manager work", async || {
            let account = accounts.get_opt("default").await?;
            Ok(account.is_some() && maps.get_opt("kube-root-ca.crt").await?.is_some())
        })
        .await
    }

    /// Waits for a condition. Stops waiting when a component has ended.
    async fn wait(&self, what: &str, mut ready: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let outcome = eventually(what, READY, async || match self.check_alive() {
            Err(dead) => Ok(Some(Err(dead))),
            Ok(()) => ready().await.map(|yes| yes.then_some(Ok(()))),
        })
        .await;
        match outcome {
            Ok(outcome) => outcome,
            Err(late) => Err(anyhow!("{late:#}\n{}", self.local()?.tails(20))),
        }
    }

    /// Writes a copy of the admin's kubeconfig with another user.
    fn derive_kubeconfig(&self, file: &str, user: &Value) -> Result<PathBuf> {
        if let Kind::Local(local) = &self.kind {
            return local.write_kubeconfig(file, user);
        }
        let config = Kubeconfig::read_from(&self.admin_kubeconfig).context("read E2E_KUBECONFIG")?;
        let context = current_context(&config)?;
        let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.and_then(|cluster| cluster.cluster.as_ref()).context("E2E_KUBECONFIG has no cluster")?;
        write_kubeconfig(&self.state.path, file, &serde_json::to_value(cluster)?, user)
    }

    fn external_user(&self) -> Result<Value> {
        let config = Kubeconfig::read_from(&self.admin_kubeconfig).context("read E2E_KUBECONFIG")?;
        let name = current_context(&config)?.user.context("E2E_KUBECONFIG's context has no user")?;
        let user = config.auth_infos.iter().find(|user| user.name == name);
        let user = user.and_then(|user| user.auth_info.as_ref()).context("E2E_KUBECONFIG has no user")?;
        Ok(serde_json::to_value(user)?)
    }
}

impl Processes {
    fn all_there(&self) -> bool {
        self.etcd.is_some() && self.apiserver.is_some() && self.controller_manager.is_some()
    }
}

impl Local {
    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_alive(&self) -> Result<()> {
        let mut processes = self.processes();
        let Processes { etcd, apiserver, controller_manager } = &mut *processes;
        let all = [("etcd", etcd), ("kube-apiserver", apiserver), ("kube-controller-manager", controller_manager)];
        for (name, process) in all {
            if let Some(process) = process
                && let Some(code) = process.exited()?
            {
                bail!("{name} ended with code {code}; its last lines:\n{}", paths::tail(process.log_path(), 20));
            }
        }
        Ok(())
    }

    fn tails(&self, lines: usize) -> String {
        let of = |name: &str| format!("{name}:\n{}\n", paths::tail(&self.dir.join(format!("{name}.log")), lines));
        ["etcd", "kube-apiserver", "kube-controller-manager"].map(of).concat()
    }

    fn spawn(&self, name: &str, args: &[String]) -> Result<Guarded> {
        // All other processes need etcd, so its guard removes the state directory if the harness cannot.
        let clears_up = name == "etcd" && !keep_always();
        Guarded::spawn(Program {
            name,
            path: self.binaries.join(name),
            args: args.to_vec(),
            env: Vec::new(),
            log: self.dir.join(format!("{name}.log")),
            // The state is not needed afterwards, so there is no grace period.
            grace: Duration::ZERO,
            remove: clears_up.then_some(self.dir.as_path()),
        })
    }

    fn spawn_etcd(&self) -> Result<Guarded> {
        let peer_url = format!("http://127.0.0.1:{}", self.peer_port);
        let mut args = vec![
            format!("--data-dir={}", self.dir.join("etcd").display()),
            // The data need not survive a crash of the machine.
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls={}", self.etcd_url),
            format!("--advertise-client-urls={}", self.etcd_url),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--log-level=warn".to_owned(),
        ];
        args.extend(self.options.etcd_args.iter().cloned());
        self.spawn("etcd", &args)
    }

    fn spawn_apiserver(&self) -> Result<Guarded> {
        let pki = &self.pki;
        let mut args = vec![
            format!("--etcd-servers={}", self.etcd_url),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            // A loopback address must not be an endpoint, and no test needs the Service `kubernetes`.
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--tls-cert-file={}", self.serving.certificate.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!("--client-ca-file={}", pki.authority().display()),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={}", pki.service_account_key().display()),
            format!("--service-account-key-file={}", pki.service_account_public_key().display()),
            format!("--audit-policy-file={}", self.dir.join("audit-policy.yaml").display()),
            format!("--audit-log-path={}", self.dir.join("audit.log").display()),
            // An entry is written before its request counts as done. The file is never rotated while somebody reads it.
            "--audit-log-mode=blocking".to_owned(),
            "--audit-log-maxsize=100000".to_owned(),
            // Without this flag a graceful shutdown waits a minute for the watches.
            "--shutdown-watch-termination-grace-period=1s".to_owned(),
        ];
        args.extend(self.options.apiserver_args.iter().cloned());
        self.spawn("kube-apiserver", &args)
    }

    fn spawn_controller_manager(&self) -> Result<Guarded> {
        let user = "system:kube-controller-manager";
        // One identity for all controllers needs the rights of all of them.
        let groups: &[&str] = if self.options.shared_credentials { &["system:masters"] } else { &[] };
        let files = self.pki.client("kube-controller-manager", user, groups)?;
        let kubeconfig = self.write_kubeconfig("kube-controller-manager", &certificate_user(&files))?;
        let controllers = [&[CONTROLLERS], &*self.options.more_controllers].concat().join(",");
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--controllers={controllers}"),
            format!("--use-service-account-credentials={}", !self.options.shared_credentials),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--root-ca-file={}", self.pki.authority().display()),
            format!("--service-account-private-key-file={}", self.pki.service_account_key().display()),
            "--concurrent-namespace-syncs=10".to_owned(),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        self.spawn("kube-controller-manager", &args)
    }

    fn write_kubeconfig(&self, file: &str, user: &Value) -> Result<PathBuf> {
        let cluster = json!({
            "server": format!("https://127.0.0.1:{}", self.port),
            "certificate-authority": self.pki.authority(),
        });
        write_kubeconfig(&self.dir, file, &cluster, user)
    }
}

/// Binds all ports before it releases any, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        *port = listener.local_addr().context("find a free port")?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A loopback port that is free now, for the listeners of the operator.
pub fn free_port() -> Result<u16> {
    free_ports::<1>().map(|[port]| port)
}
