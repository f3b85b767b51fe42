//! `policy-baseline run`: the operator.

use std::io::IsTerminal;

use clap::Args as ClapArgs;
use kube::{Config, config::KubeConfigOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{
    api::names::{DEFAULT_OPERATOR_NAMESPACE, is_dns_label},
    apply::chain,
    client,
    controller::{self, Settings},
};

const IN_CLUSTER_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The namespace that the operator runs in; no baseline closes it. Default: that of its ServiceAccount, else policy-baseline-system.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,

    /// The name of this instance in events. Default: policy-baseline.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "policy-baseline", hide_default_value = true)]
    instance: String,

    /// The context of the kubeconfig. Default: its current one. The kubeconfig is $KUBECONFIG or ~/.kube/config; in a pod, the ServiceAccount is used.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.into())
    } else {
        Err("write a namespace: at most 63 lower-case letters, digits and '-'".into())
    }
}

/// Runs the operator until it is told to stop.
pub fn run(args: Args) -> Result<(), String> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    runtime.block_on(operate(args))
}

async fn operate(args: Args) -> Result<(), String> {
    let config = config(args.context).await?;
    info!(version = env!("CARGO_PKG_VERSION"), apiserver = %config.cluster_url, "policy-baseline starts");
    let clients = client::connect(config).map_err(|e| format!("cannot set up the connection to the apiserver: {}", chain(&e)))?;
    let in_cluster = || std::fs::read_to_string(IN_CLUSTER_NAMESPACE).ok().map(|ns| ns.trim().to_owned());
    let namespace = args.namespace.or_else(in_cluster).unwrap_or_else(|| DEFAULT_OPERATOR_NAMESPACE.into());
    let settings = Settings { namespace, instance: args.instance };
    controller::run(&clients, settings, stop_signal()?).await.map_err(|e| chain(&e))?;
    info!("policy-baseline has stopped");
    Ok(())
}

async fn config(context: Option<String>) -> Result<Config, String> {
    let explain = |e: &dyn std::error::Error| {
        format!("no cluster to talk to: {}. Set KUBECONFIG to a kubeconfig, or run in a pod with a ServiceAccount", chain(e))
    };
    if context.is_none() {
        return Config::infer().await.map_err(|e| explain(&e));
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_kubeconfig(&options).await.map_err(|e| explain(&e))
}

fn stop_signal() -> Result<impl Future<Output = ()>, String> {
    let explain = |e| format!("cannot listen for signals: {e}");
    let mut terminate = signal(SignalKind::terminate()).map_err(explain)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(explain)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
