//! `policy-baseline run`: the operator.

use std::{io::IsTerminal, net::SocketAddr, sync::Arc};

use clap::{Args as ClapArgs, ValueEnum};
use kube::{Config, config::KubeConfigOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{
    admin::{self, Shown},
    api::names::{DEFAULT_OPERATOR_NAMESPACE, is_dns_label},
    apply::chain,
    client,
    controller::{self, Settings},
    health::Health,
    metrics::WATCHES,
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

    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one, which the log names.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    admin_address: SocketAddr,

    /// The form of the log. Default: text on a terminal, JSON otherwise.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// What is logged: a level, or levels by module such as info,policy_baseline::controller=debug. Default: $RUST_LOG, else info.
    #[arg(long, value_name = "LEVELS", value_parser = levels)]
    log_level: Option<String>,

    /// The context of the kubeconfig. Default: its current one. The kubeconfig is $KUBECONFIG or ~/.kube/config; in a pod, the ServiceAccount is used.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One object a line, for machines.
    Json,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into())
}

fn levels(text: &str) -> Result<String, String> {
    let explain =
        |_| "write off, error, warn, info, debug or trace, also by module: info,policy_baseline::controller=debug".to_owned();
    EnvFilter::builder().parse(text).map(|_| text.into()).map_err(explain)
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
    log_to_stderr(args.log_format, args.log_level.as_deref())?;
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
    let shown = Shown { health: Arc::new(Health::new(&WATCHES)), metrics: Arc::default() };
    let explain = |e| format!("cannot listen on {}: {e}. Choose another with --admin-address", args.admin_address);
    let (address, served) = admin::open(args.admin_address, shown.clone()).await.map_err(explain)?;
    info!(%address, "admin port is open");
    tokio::select! {
        ended = controller::run(&clients, settings, shown, stop_signal()?) => ended.map_err(|e| chain(&e))?,
        ended = served => return Err(format!("the admin port ended: {ended:?}")),
    }
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

fn log_to_stderr(format: Option<LogFormat>, levels: Option<&str>) -> Result<(), String> {
    let builder = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    let filter = match levels {
        Some(levels) => builder.parse(levels).map_err(|e| e.to_string())?,
        None => {
            builder.from_env().map_err(|e| format!("RUST_LOG: {e}. Write for example RUST_LOG=info,policy_baseline=debug"))?
        }
    };
    let on_a_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format.unwrap_or(if on_a_terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => log.with_ansi(on_a_terminal && std::env::var_os("NO_COLOR").is_none()).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}
