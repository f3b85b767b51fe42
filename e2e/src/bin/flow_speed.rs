//! `e2e-flow-speed`: measures on one core how fast the engine behind `explain flow` compiles policies and judges all pairs of pods, and how fast
//! `would-break` joins recorded flows with them. Two other engines judge the same flows. It needs no cluster, and prints three tables.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use policy_baseline::{
    CompiledPolicies, Flow, FlowDecider, FlowDecision, FlowDump, FlowSnapshot, Party, Protocol, Recording, Way,
};
use policy_baseline_e2e::reference::{self, ReferenceWorld, WorldParty, WorldPort};
use serde_json::Value;

/// A cluster that is made up.
struct Size {
    namespaces: usize,
    pods: usize,
    policies: usize,
}

/// The two sizes for which there is a limit of time.
const SIZES: [Size; 2] =
    [Size { namespaces: 20, pods: 1_000, policies: 1_000 }, Size { namespaces: 2_000, pods: 20_000, policies: 8_000 }];
const APPS: usize = 5;
/// The recorded flows that are joined with the larger cluster.
const RECORDED: usize = 1_000_000;
/// The flows that all engines judge.
const JUDGED: usize = 50_000;
/// How often ours judges them: once is too short to be measured well.
const ROUNDS: u32 = 20;
/// The port of the flows.
const PORT: u16 = 8080;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "The measurement failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "| namespaces | pods | policies | read | compile | all pairs | allowed pairs | memory |\n|---|---|---|---|---|---|---|---|"
    )?;
    for size in SIZES {
        let text = size.dump()?;
        let (dump, read) = timed(|| FlowDump::read(&text));
        let dump = dump.map_err(anyhow::Error::msg)?;
        if !dump.warnings.is_empty() {
            bail!("{:?}", dump.warnings);
        }
        let snapshot: FlowSnapshot = dump.objects.into_iter().collect();
        drop(text);
        let (compiled, compile) = timed(|| CompiledPolicies::of(&snapshot));
        let (reach, judge) = timed(|| compiled.reach(Protocol::TCP, PORT, false));
        let Size { namespaces, pods, policies } = size;
        writeln!(
            out,
            "| {namespaces} | {pods} | {policies} | {} | {} | {} | {} | {} MB |",
            shown(read),
            shown(compile),
            shown(judge),
            reach.pairs(),
            peak_megabytes()?
        )?;
    }
    compare(&mut out, &SIZES[0])?;
    writeln!(out, "\n| recorded flows of Hubble | bytes | read | judge | not allowed | memory |\n|---|---|---|---|---|---|")?;
    let [_, large] = SIZES;
    fs::write("/proc/self/clear_refs", "5")?;
    let dump = FlowDump::read(&large.dump()?).map_err(anyhow::Error::msg)?;
    let mut recording = Recording::new(dump.objects.into_iter().collect(), None);
    let (bytes, read) = timed(|| large.record(&mut recording));
    let (found, judge) = timed(|| recording.judge(None));
    writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} MB |",
        found.flows,
        bytes?,
        shown(read),
        shown(judge),
        found.not_allowed,
        peak_megabytes()?
    )?;
    Ok(())
}

/// Lets three engines judge the same flows, each flow in both directions.
fn compare(out: &mut impl Write, size: &Size) -> Result<()> {
    let text = size.dump()?;
    let snapshot: FlowSnapshot = FlowDump::read(&text).map_err(anyhow::Error::msg)?.objects.into_iter().collect();
    let compiled = CompiledPolicies::of(&snapshot);
    let party = |pod: usize| Party { pod: Some(pod), address: snapshot.pods[pod].addresses.first().copied() };
    let pair = |number: usize| (number * 7919 % size.pods, (number * 104_729 + number / 1000) % size.pods);
    let pairs = (0..).map(pair).filter(|(from, to)| from != to);
    let pairs: Vec<(usize, usize)> = pairs.take(JUDGED).collect();
    let flows: Vec<Flow> =
        pairs.iter().map(|(from, to)| Flow { from: party(*from), to: party(*to), protocol: Protocol::TCP, port: PORT }).collect();

    let is_allowed =
        |flow: &&Flow| [Way::Egress, Way::Ingress].map(|way| compiled.judge(flow, way).decision()) == [FlowDecision::Allowed; 2];
    let (allowed, each) = timed(|| (0..ROUNDS).map(|_| flows.iter().filter(is_allowed).count()).max());
    let allowed = allowed.unwrap_or_default();
    let (decided, each_decided) = timed(|| {
        let of_round = |_| {
            let decider = FlowDecider::of(&compiled);
            flows.iter().filter(|flow| decider.decides(flow) == FlowDecision::Allowed).count()
        };
        (0..ROUNDS).map(of_round).max()
    });
    let (by_pairs, all_pairs) = timed(|| {
        let of_round = |_| {
            let reach = compiled.reach(Protocol::TCP, PORT, false);
            pairs.iter().filter(|(from, to)| reach.allows(*from, *to) == Some(true)).count()
        };
        (0..ROUNDS).map(of_round).max()
    });
    let theirs = reference::time(size.reference_world(&text, &snapshot, &pairs)?)?;
    let (cyclonus, kube) = (&theirs.cyclonus, &theirs.kube_network_policies);
    if [decided.unwrap_or_default(), by_pairs.unwrap_or_default(), cyclonus.allowed, kube.allowed] != [allowed; 4] {
        bail!("the engines disagree: {allowed} flows, {decided:?}, {by_pairs:?}, {theirs:?}");
    }

    let Size { namespaces, pods, policies } = size;
    writeln!(
        out,
        "\n{JUDGED} flows between {pods} pods in {namespaces} namespaces with {policies} policies; {allowed} are allowed\n"
    )?;
    writeln!(out, "| engine | time | flows a second | times as fast as the faster reference engine |\n|---|---|---|---|")?;
    let [cyclonus, kube] = [cyclonus, kube].map(|time| Duration::from_nanos(time.nanoseconds));
    let faster = cyclonus.min(kube);
    for (engine, time) in [
        ("ours, one flow after the other, with the rules that allow it or the policies that deny it", each / ROUNDS),
        ("ours, one flow after the other, only whether it is allowed", each_decided / ROUNDS),
        ("ours, all pairs of pods at once", all_pairs / ROUNDS),
        ("cyclonus v0.5.6", cyclonus),
        ("kube-network-policies v0.8.0", kube),
    ] {
        let a_second = u128::from(JUDGED as u64) * 1_000_000_000 / time.as_nanos().max(1);
        let times = faster.as_secs_f64() / time.as_secs_f64();
        writeln!(out, "| {engine} | {:.1} ms | {a_second} | {times:.1} |", time.as_secs_f64() * 1000.0)?;
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}

fn shown(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// The most memory that this process has had.
fn peak_megabytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1000)
}

impl Size {
    /// The same world and flows for the other engines. The pairs are numbers of pods of the snapshot.
    fn reference_world(&self, dump: &str, snapshot: &FlowSnapshot, pairs: &[(usize, usize)]) -> Result<ReferenceWorld> {
        let mut list: Value = serde_json::from_str(dump)?;
        let Value::Array(objects) = list["items"].take() else { bail!("the dump has no items") };
        let parties = snapshot.pods.iter().map(|pod| WorldParty {
            pod: Some(format!("{}/{}", pod.namespace, pod.name)),
            address: pod.addresses.first().map(ToString::to_string).unwrap_or_default(),
        });
        Ok(ReferenceWorld {
            name: format!("{} policies", self.policies),
            objects,
            admin_policies: vec![],
            parties: parties.collect(),
            ports: vec![WorldPort { protocol: "TCP".into(), number: PORT }],
            flows: pairs.iter().map(|(from, to)| [*from, *to, 0]).collect(),
        })
    }

    /// Records flows from pods to other pods and to addresses outside, as Hubble prints them. Returns the number of bytes.
    fn record(&self, recording: &mut Recording) -> Result<usize> {
        let (mut line, mut bytes) = (String::new(), 0);
        for number in 0..RECORDED {
            let (from, to) = (number * 7919 % self.pods, number * 104_729 % self.pods);
            let end = |pod: usize| {
                let (namespace, app) = (pod % self.namespaces, pod / self.namespaces % APPS);
                format!(
                    r#"{{"ID":{pod},"identity":{pod},"namespace":"ns-{namespace}","labels":["k8s:app=app-{app}","k8s:io.cilium.k8s.policy.cluster=default","k8s:io.kubernetes.pod.namespace=ns-{namespace}"],"pod_name":"p-{pod}","workloads":[{{"name":"app-{app}","kind":"Deployment"}}]}}"#
                )
            };
            let is_outside = number % 10 == 0;
            let destination = if is_outside { r#"{"identity":2,"labels":["reserved:world"]}"#.to_owned() } else { end(to) };
            let ip = if is_outside {
                format!("203.0.{}.{}", number / 256 % 256, number % 256)
            } else {
                format!("10.1.0.{}", to % 256)
            };
            line.clear();
            write!(
                line,
                r#"{{"flow":{{"time":"2026-11-30T10:00:00.123456789Z","uuid":"3f1a2b3c-0000-4000-8000-{number:012}","verdict":"FORWARDED","ethernet":{{"source":"aa:bb:cc:dd:ee:ff","destination":"ff:ee:dd:cc:bb:aa"}},"IP":{{"source":"10.0.0.{}","destination":"{ip}","ipVersion":"IPv4"}},"l4":{{"TCP":{{"source_port":41000,"destination_port":8080,"flags":{{"SYN":true}}}}}},"source":{},"destination":{destination},"Type":"L3_L4","node_name":"node-1","is_reply":false,"event_type":{{"type":4,"sub_type":3}},"traffic_direction":"EGRESS","trace_observation_point":"TO_STACK","Summary":"TCP Flags: SYN"}},"node_name":"node-1","time":"2026-11-30T10:00:00.123456789Z"}}"#,
                from % 256,
                end(from),
            )?;
            bytes += line.len() + 1;
            recording.line(&line, String::new).map_err(anyhow::Error::msg)?;
        }
        Ok(bytes)
    }

    /// The cluster as a dump. Each namespace is closed in both directions; further policies open a port between two applications of the
    /// namespace, to an application of the next namespace, and to a range of addresses.
    fn dump(&self) -> Result<String> {
        let mut items = Vec::new();
        for number in 0..self.namespaces {
            items.push(format!(
                r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"ns-{number}","labels":{{"kubernetes.io/metadata.name":"ns-{number}"}}}}}}"#
            ));
        }
        for number in 0..self.pods {
            let (namespace, app) = (number % self.namespaces, number / self.namespaces % APPS);
            let [a, b] = [number / 256, number % 256];
            items.push(format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"namespace":"ns-{namespace}","name":"p-{number}","labels":{{"app":"app-{app}","pod-template-hash":"7d9f{app}"}}}},"spec":{{"nodeName":"node-{}","containers":[{{"ports":[{{"name":"http","containerPort":8080}}]}}]}},"status":{{"phase":"Running","podIPs":[{{"ip":"10.{}.{}.{b}"}}]}}}}"#,
                number % 100,
                a / 256,
                a % 256,
            ));
        }
        for number in 0..self.policies {
            let (namespace, round) = (number % self.namespaces, number / self.namespaces);
            let (app, peer, next) = (round % APPS, (round + 1) % APPS, (namespace + 1) % self.namespaces);
            let spec = match round {
                0 => r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#.to_owned(),
                _ => format!(
                    r#"{{"podSelector":{{"matchLabels":{{"app":"app-{app}"}}}},"policyTypes":["Ingress","Egress"],
                    "ingress":[{{"from":[{{"podSelector":{{"matchLabels":{{"app":"app-{peer}"}}}}}},{{"namespaceSelector":{{"matchLabels":{{"kubernetes.io/metadata.name":"ns-{next}"}}}},"podSelector":{{"matchLabels":{{"app":"app-{app}"}}}}}}],"ports":[{{"port":"http"}}]}}],
                    "egress":[{{"to":[{{"podSelector":{{}}}},{{"namespaceSelector":{{}},"podSelector":{{"matchLabels":{{"app":"app-{peer}"}}}}}}],"ports":[{{"port":8080}}]}},{{"to":[{{"ipBlock":{{"cidr":"10.0.{}.0/24"}}}}]}}]}}"#,
                    number % 50,
                ),
            };
            items.push(format!(
                r#"{{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{{"namespace":"ns-{namespace}","name":"n-{number}"}},"spec":{spec}}}"#
            ));
        }
        let mut text = String::new();
        write!(text, r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, items.join(","))?;
        Ok(text)
    }
}
