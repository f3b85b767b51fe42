//! `policy-baseline run`: runs the operator.

use std::{
    hash::{BuildHasher, RandomState},
    io::IsTerminal,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{ArgAction, Args as ClapArgs, ValueEnum};
use futures::FutureExt;
use jiff::SignedDuration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, ParseError, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{
    cluster::{self, Cluster},
    other_tools::ToolArgs,
};
use crate::{
    api::lease::{LONGEST, NAME},
    cluster::{
        error::chain,
        lease::{self, LeaseConfig, Timing},
        watch::WATCHES,
    },
    operator::{
        self, RunError, Settings,
        admin::{self, Shown},
        health::Health,
    },
};

/// How long the operator waits until each API server serves objects by a CRD that has changed. Until then, lists may still lack fields.
const CRD_SERVED: Duration = Duration::from_secs(2);
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    #[command(flatten)]
    cluster: Cluster,

    /// The name of this instance in Events and in the Lease. Default: the host name.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    instance: Option<String>,

    /// Use leader election with the Lease `policy-baseline` in the operator's namespace: only the leader writes, and the other instances are
    /// ready to take over. Use `false` only for an instance that runs alone.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_elect: bool,

    /// How long the Lease is valid. Other instances take over after that time without a renewal; a leader that cannot renew stops writing after
    /// two thirds of it.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    lease_duration: Duration,

    /// Label each namespace with `policybaseline.io/decided`: `protected-<uid>` once its policies are in place, `exempt-<uid>` once it is clear
    /// that it gets none. The admission component no-gap needs it, and grants the permission.
    #[arg(long, env = "LABEL_NAMESPACES", value_name = "BOOL", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    label_namespaces: bool,

    /// The resolv.conf that kubelet gives to pods; egress policies allow its nameservers. Default: in a pod /etc/resolv.conf, elsewhere none.
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,

    #[command(flatten)]
    tools: ToolArgs,

    /// Where to serve /livez, /readyz and /metrics. Port 0 takes a free port, which the log names.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    admin_address: SocketAddr,

    /// The format of the log. Default: text on a terminal, JSON otherwise.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// What to log: off, error, warn, info, debug or trace; or levels by module, such as info,policy_baseline::operator=debug. Default:
    /// $RUST_LOG, else info.
    #[arg(long, value_name = "LEVELS", value_parser = levels)]
    log_level: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// For machines: one object a line.
    Json,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into())
}

/// Silences the log of these libraries. The operator logs the same problems once, in plain words.
const SILENCED: &str = "kube_runtime=off,kube_client::client=off,hyper=off,hyper_util=off,h2=off";

/// Checks log levels. The filter itself would take an unknown word as the name of a module, and log nothing else.
fn levels(text: &str) -> Result<String, String> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic());
    let is_level = |level: &str| is_word(level) && level.parse::<LevelFilter>().is_ok();
    let is_module = |module: &str| module.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    let is_directive = |part: &str| match part.split_once('=') {
        None => is_level(part),
        Some((module, level)) => !module.is_empty() && is_module(module) && is_level(level),
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().all(|part| is_directive(part)) {
        Ok(parts.join(","))
    } else {
        Err("write off, error, warn, info, debug or trace; or levels by module, such as info,policy_baseline::operator=debug"
            .into())
    }
}

/// The log filter for these levels.
fn filter(levels: &str) -> Result<Targets, String> {
    let parts = || levels.split(',').map(str::trim);
    let default = parts().filter_map(|part| part.parse::<LevelFilter>().ok()).next_back();
    let silenced = default.is_none_or(|level| level < LevelFilter::DEBUG);
    let directives: Vec<&str> = silenced.then_some(SILENCED).into_iter().chain(parts()).collect();
    directives.join(",").parse().map_err(|e: ParseError| e.to_string())
}

/// The shortest lease duration.
const SHORTEST: Duration = Duration::from_secs(3);

/// Parses a lease duration: whole seconds, as in a Lease. A write that is sent at the last moment has a third of it to finish.
fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    let is_allowed = |d: &Duration| d.subsec_nanos() == 0 && (SHORTEST..=LONGEST).contains(d);
    duration.filter(is_allowed).ok_or_else(|| {
        "write whole seconds or minutes, from 3s to 60m, such as 15s; a shorter Lease leaves no time to renew it and to end a last write".into()
    })
}

/// Runs the operator until a signal stops it. Returns the exit code: 0, or 128 plus the signal number if a second signal ended it.
pub fn run(args: RunArgs) -> Result<u8, String> {
    log_to_stderr(args.log_format, args.log_level.as_deref())?;
    // Two threads: this one runs the loop, the other one connections and the Lease. Each further thread would need its own heap.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    let code = runtime.block_on(operate(args));
    // This does not wait, because a name lookup may be in progress.
    runtime.shutdown_background();
    code
}

async fn operate(args: RunArgs) -> Result<u8, String> {
    // Do this first. Until then a signal ends the process immediately, and is lost in a container, where the process has id 1.
    let mut signals = Signals::listen()?;
    let config = args.cluster.config().await?;
    info!(version = env!("CARGO_PKG_VERSION"), api_server = %config.cluster_url, "policy-baseline starts");
    let clients = cluster::connect(config)?;
    let namespace = args.cluster.operator_namespace();
    let resolv_conf = args.resolv_conf.or_else(cluster::resolv_conf);
    let instance = args.instance.or_else(host).unwrap_or_else(|| NAME.into());
    let tools = args.tools.tools();
    let settings = Settings { namespace, instance, label_namespaces: args.label_namespaces, resolv_conf, tools };
    let election = |not_before| {
        if !args.leader_elect {
            return lease::stand_alone(&clients.requests);
        }
        // The identity must be unique: this run must not take for its own what a killed process or a restored state of the Lease names.
        let identity = format!("{}_{:016x}", settings.instance, RandomState::new().hash_one(std::process::id()));
        let timing = Timing::of(args.lease_duration, &identity);
        let namespace = settings.namespace.clone();
        lease::stand(&clients.requests, LeaseConfig { namespace, name: NAME.into(), identity, timing, not_before })
    };
    let shown = Shown { health: Arc::new(Health::new(&WATCHES)), metrics: Arc::default() };
    let explain = |e| format!("cannot listen on {}: {e}. Choose another with --admin-address", args.admin_address);
    let (address, served) = admin::open(args.admin_address, shown.clone()).await.map_err(explain)?;
    info!(%address, "the admin port is open");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let stopped = stopped.map(drop).shared();
    let operator = async {
        let mut not_before = None;
        loop {
            let run = operator::run(&clients, settings.clone(), election(not_before), shown.clone(), stopped.clone());
            match run.await {
                Err(error) if error.is_history_reset() => {
                    warn!("{error}. Its data was probably restored from a backup. Everything is forgotten and listed again");
                    shown.metrics.history_reset();
                    shown.starts_anew();
                    not_before = Some(Instant::now() + args.lease_duration);
                }
                Err(reason @ RunError::ListAgain(_)) => {
                    warn!("{reason}. Everything is forgotten and listed again");
                    shown.starts_anew();
                    tokio::select! {
                        () = tokio::time::sleep(CRD_SERVED) => {}
                        () = stopped.clone() => return Ok(()),
                    }
                }
                ended => return ended,
            }
        }
    };
    tokio::pin!(operator, served);
    tokio::select! {
        ended = &mut operator => return ended.map(|()| 0).map_err(|e| chain(&e)),
        ended = &mut served => return Err(format!("the admin port ended unexpectedly: {ended:?}")),
        _ = signals.next() => {}
    }
    let _ = stop.send(());
    tokio::select! {
        ended = &mut operator => ended.map_err(|e| chain(&e))?,
        signal = signals.next() => {
            warn!("a second signal stops the operator at once: writes in flight may not end, and the Lease is not released");
            return Ok(128 + signal);
        }
    }
    info!("policy-baseline has stopped");
    Ok(0)
}

fn host() -> Option<String> {
    let name = std::fs::read_to_string(HOSTNAME).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// The signals that stop the operator.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next signal. Returns its number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

fn log_to_stderr(format: Option<LogFormat>, levels: Option<&str>) -> Result<(), String> {
    let filter = match (levels, std::env::var("RUST_LOG")) {
        (Some(levels), _) => filter(levels)?,
        (None, Ok(chosen)) if !chosen.is_empty() => {
            filter(&self::levels(&chosen).map_err(|e| format!("RUST_LOG is {chosen:?}: {e}"))?)?
        }
        (None, _) => filter("info")?,
    };
    let on_a_terminal = std::io::stderr().is_terminal();
    // Otherwise, a line that cannot be written would cause an error message to stderr, and the process would end if that fails too.
    let log = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let log = match format.unwrap_or(if on_a_terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => log.with_ansi(on_a_terminal && std::env::var_os("NO_COLOR").is_none()).boxed(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(log).with(filter).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_level_is_a_known_word_alone_or_for_a_module() {
        for text in ["off", "info", "WARN", "debug", "info,policy_baseline=debug", "policy_baseline::operator=trace"] {
            assert_eq!(levels(text).as_deref(), Ok(text));
            filter(text).unwrap();
        }
        assert_eq!(levels("warn, h2=info").as_deref(), Ok("warn,h2=info"));
        for text in ["", "verbose", "policy_baseline", "3", "info,", "=debug", "a=b=debug", "policy_baseline=loud", "a b=info"] {
            assert!(levels(text).is_err_and(|e| e.contains("off, error, warn, info, debug or trace")), "{text}");
        }
    }

    #[test]
    fn the_libraries_below_are_silent_unless_debug_is_asked_for_or_they_are_named() {
        let of = |levels: &str| filter(levels).unwrap().to_string();
        for levels in ["info", "warn", "info,policy_baseline=debug"] {
            assert!(of(levels).contains("kube_runtime=off"), "{levels}");
        }
        assert!(!of("debug").contains("off") && !of("policy_baseline=info,trace").contains("off"));
        assert!(of("info,kube_runtime=debug").contains("kube_runtime=debug"));
    }

    #[test]
    fn a_lease_lasts_whole_seconds_and_not_too_few() {
        for (text, seconds) in [("3s", 3), ("15s", 15), ("2m", 120), ("60m", 3600), ("1h", 3600), ("1m30s", 90)] {
            assert_eq!(lease_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in
            ["", "s", "15", "2s", "0s", "1.5s", "3.5s", "-3s", "500ms", "2h", "61m", "3601s", "99999999999999999999s", "3µs"]
        {
            assert!(lease_duration(text).is_err_and(|e| e.contains("from 3s to 60m")), "{text}");
        }
    }
}
