//! The flags that select the cluster and the operator's namespace. Several subcommands share them.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args as ClapArgs;
use kube::{
    Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::{
    api::{
        PolicyBaseline,
        names::{DEFAULT_OPERATOR_NAMESPACE, is_dns_label},
    },
    cluster::{
        client::{self, Clients},
        error::{ApiProblem, chain},
        inventory::ReadError,
        lists,
    },
};

/// How long a command waits for the first answer. With it, a person learns within 5 s that there is no cluster.
const FIRST_ANSWER: Duration = Duration::from_secs(4);
const NO_CRDS: &str = "the cluster has no CRDs of policy-baseline, so there is no baseline and no opt-out. Install them with: policy-baseline crd | kubectl apply --server-side -f -";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const IN_CLUSTER_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The flags that select the cluster and the operator in it.
#[derive(Debug, ClapArgs)]
pub struct Cluster {
    #[command(flatten)]
    operator: OperatorNamespace,

    #[command(flatten)]
    connection: Connection,
}

/// The flag that names the namespace of the operator.
#[derive(Debug, ClapArgs)]
pub struct OperatorNamespace {
    /// The namespace that the operator runs in; no baseline selects it. Default: policy-baseline-system, and for commands that read the
    /// operator's own objects first the namespace of the pod that they run in.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    operator_namespace: Option<String>,
}

impl OperatorNamespace {
    /// The flag, or the default. For a baseline that is judged anywhere, such as in a pod of CI.
    pub fn or_default(&self) -> &str {
        self.operator_namespace.as_deref().unwrap_or(DEFAULT_OPERATOR_NAMESPACE)
    }
}

/// The flags that select the cluster.
#[derive(Debug, ClapArgs)]
pub struct Connection {
    /// The context of the kubeconfig. Default: its current context, or in a pod the ServiceAccount.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// The kubeconfig. Default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Cluster {
    /// The namespace of the operator: from the flag, else the ServiceAccount, else the default.
    pub fn operator_namespace(&self) -> String {
        let in_cluster = || std::fs::read_to_string(IN_CLUSTER_NAMESPACE).ok().map(|ns| ns.trim().to_owned());
        self.operator.operator_namespace.clone().or_else(in_cluster).unwrap_or_else(|| DEFAULT_OPERATOR_NAMESPACE.into())
    }

    /// How to reach the API server.
    pub async fn config(&self) -> Result<Config, String> {
        self.connection.config().await
    }

    /// The clients, and the address of the API server.
    pub async fn reach(&self) -> Result<(Clients, String), String> {
        self.connection.reach().await
    }
}

impl Connection {
    /// How to reach the API server: from the kubeconfig, or else from the pod's ServiceAccount.
    pub async fn config(&self) -> Result<Config, String> {
        let read = self.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let error = match (read, &self.context) {
            (Ok(kubeconfig), context) => {
                let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                match Config::from_custom_kubeconfig(kubeconfig, &options).await {
                    Ok(config) => return Ok(overridden(config)),
                    Err(error) => in_words(&error, &contexts),
                }
            }
            (Err(error), _) => in_words(&error, &[]),
        };
        if self.context.is_none()
            && self.kubeconfig.is_none()
            && let Ok(config) = Config::incluster()
        {
            return Ok(overridden(config));
        }
        Err(error)
    }

    /// The clients, and the address of the API server. Finds connection problems immediately, which needs no permission.
    pub async fn reach(&self) -> Result<(Clients, String), String> {
        let config = self.config().await?;
        let address = config.cluster_url.to_string();
        let clients = connect(config)?;
        let answered = tokio::time::timeout(FIRST_ANSWER, clients.requests.apiserver_version()).await;
        let problem = match answered {
            Ok(Ok(_)) => return Ok((clients, address)),
            Ok(Err(error)) => ApiProblem::of(&error),
            Err(_) => ApiProblem::Silent,
        };
        if problem.is_of_connection() {
            return Err(problem.sentence(&address));
        }
        Ok((clients, address))
    }
}

/// A sentence if the API server does not know baselines.
pub async fn missing_crds(client: &Client) -> Option<&'static str> {
    let listed = lists::list_metadata::<PolicyBaseline>(client, None, &ListParams::default().limit(1)).await;
    let is_missing = listed.is_err_and(|error| matches!(ApiProblem::of(&error), ApiProblem::Refused(404, _)));
    is_missing.then_some(NO_CRDS)
}

/// Runs a command that ends by itself.
pub fn block_on<T>(command: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    let result = runtime.block_on(command);
    // This does not wait, because a name lookup may be in progress.
    runtime.shutdown_background();
    result
}

/// Says which resource could not be read, and what to do.
pub fn unread(error: &ReadError, address: &str) -> String {
    format!("{error}: {}", error.problem.sentence(address))
}

/// Applies the environment variables with which kube overrides identity and address for debugging.
fn overridden(mut config: Config) -> Config {
    config.apply_debug_overrides();
    config
}

/// Describes an error of a kubeconfig that has these contexts, and what to do.
fn in_words(error: &KubeconfigError, contexts: &[String]) -> String {
    let contexts = if contexts.is_empty() { "no contexts".to_owned() } else { format!("these: {}", contexts.join(", ")) };
    match error {
        KubeconfigError::LoadContext(name) => {
            format!("the kubeconfig has no context {name:?}; it has {contexts}")
        }
        KubeconfigError::CurrentContextNotSet => {
            format!("the kubeconfig has no current context; choose one with --context; it has {contexts}")
        }
        KubeconfigError::ReadConfig(error, path) => {
            let why = if error.kind() == ErrorKind::NotFound { "no such file".to_owned() } else { error.kind().to_string() };
            format!(
                "cannot read the kubeconfig {}: {why}. Set KUBECONFIG to a kubeconfig, or run in a pod with a ServiceAccount",
                path.display()
            )
        }
        error => {
            format!(
                "the kubeconfig cannot be used: {}. Set KUBECONFIG to another, or run in a pod with a ServiceAccount",
                chain(error)
            )
        }
    }
}

/// The resolv.conf that kubelet gave to this pod; `None` outside of a pod, where the file does not show the DNS of pods.
pub fn resolv_conf() -> Option<PathBuf> {
    Path::new(IN_CLUSTER_NAMESPACE).exists().then(|| RESOLV_CONF.into())
}

/// Creates the clients.
pub fn connect(config: Config) -> Result<Clients, String> {
    client::connect(config).map_err(|e| format!("cannot set up the connection to the API server: {}", chain(&e)))
}

/// Parses a valid namespace name.
pub fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.into())
    } else {
        Err("write a namespace: at most 63 lower-case letters, digits and '-'".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_that_does_not_fit_is_explained_with_what_it_has() {
        let contexts = ["kind-dev".to_owned(), "prod".to_owned()];
        let unknown = in_words(&KubeconfigError::LoadContext("nope".into()), &contexts);
        assert_eq!(unknown, "the kubeconfig has no context \"nope\"; it has these: kind-dev, prod");
        let unset = in_words(&KubeconfigError::CurrentContextNotSet, &contexts);
        assert!(unset.contains("--context") && unset.contains("kind-dev, prod"), "{unset}");
        let missing = KubeconfigError::ReadConfig(ErrorKind::NotFound.into(), "/no/where".into());
        assert!(in_words(&missing, &[]).starts_with("cannot read the kubeconfig /no/where: no such file. Set KUBECONFIG"));
    }
}
