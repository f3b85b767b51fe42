//! Which cluster, and where the operator runs in it: flags that the subcommands share.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use kube::{Config, config::KubeConfigOptions};

use crate::{
    api::names::{DEFAULT_OPERATOR_NAMESPACE, is_dns_label},
    cluster::{
        client::{self, Clients},
        error::chain,
    },
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const IN_CLUSTER_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

#[derive(Debug, ClapArgs)]
pub struct Cluster {
    /// The namespace that the operator runs in; no baseline closes it. Default: that of its ServiceAccount, else policy-baseline-system.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,

    /// The context of the kubeconfig. Default: its current one. The kubeconfig is $KUBECONFIG or ~/.kube/config; in a pod, the ServiceAccount is used.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

impl Cluster {
    /// The namespace of the operator.
    pub fn operator_namespace(&self) -> String {
        let in_cluster = || std::fs::read_to_string(IN_CLUSTER_NAMESPACE).ok().map(|ns| ns.trim().to_owned());
        self.namespace.clone().or_else(in_cluster).unwrap_or_else(|| DEFAULT_OPERATOR_NAMESPACE.into())
    }

    /// How to reach the apiserver.
    pub async fn config(&self) -> Result<Config, String> {
        let explain = |e: &dyn std::error::Error| {
            format!("no cluster to talk to: {}. Set KUBECONFIG to a kubeconfig, or run in a pod with a ServiceAccount", chain(e))
        };
        if self.context.is_none() {
            return Config::infer().await.map_err(|e| explain(&e));
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Config::from_kubeconfig(&options).await.map_err(|e| explain(&e))
    }
}

/// The resolv.conf that kubelet gave to this pod. Outside of a pod there is none that says where pods find DNS.
pub fn resolv_conf() -> Option<PathBuf> {
    Path::new(IN_CLUSTER_NAMESPACE).exists().then(|| RESOLV_CONF.into())
}

/// Sets up the connections.
pub fn connect(config: Config) -> Result<Clients, String> {
    client::connect(config).map_err(|e| format!("cannot set up the connection to the apiserver: {}", chain(&e)))
}

/// A name that a namespace can have.
pub fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.into())
    } else {
        Err("write a namespace: at most 63 lower-case letters, digits and '-'".into())
    }
}
