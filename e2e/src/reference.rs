//! Two other engines that judge NetworkPolicies: the matcher of cyclonus, and the engine of kube-network-policies. `e2e/reference` builds
//! them into one program. It reads worlds and answers one after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::paths;

/// How many worlds may wait for an answer.
const UNANSWERED: usize = 64;

/// Objects, and flows between their pods and other addresses.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ReferenceWorld {
    /// What the world is about.
    pub name: String,
    /// Namespaces, Pods and NetworkPolicies.
    pub objects: Vec<Value>,
    /// AdminNetworkPolicies, and at most one BaselineAdminNetworkPolicy. Only kube-network-policies reads them.
    #[serde(rename = "adminPolicies")]
    pub admin_policies: Vec<Value>,
    /// The ends of the flows.
    pub parties: Vec<WorldParty>,
    /// The ports of the flows.
    pub ports: Vec<WorldPort>,
    /// The source, the destination and the port of each flow, as places in the other two lists.
    pub flows: Vec<[usize; 3]>,
}

/// A pod `namespace/name` with one of its addresses, or an address.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WorldParty {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    pub address: String,
}

/// A port of a flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WorldPort {
    pub protocol: String,
    pub number: u16,
}

/// What both engines say about the flows of a world.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceVerdicts {
    pub cyclonus: WorldVerdicts,
    pub kube_network_policies: WorldVerdicts,
}

/// What one engine says: a character for each flow, `+` for allowed and `-` for denied.
#[derive(Clone, Debug, Deserialize)]
pub struct WorldVerdicts {
    pub egress: String,
    pub ingress: String,
    /// What it says when it is asked once for both directions.
    pub both: String,
}

/// How long both engines take to judge the flows of a world, each flow in both directions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceTimes {
    pub cyclonus: WorldTime,
    pub kube_network_policies: WorldTime,
}

/// How long one engine takes.
#[derive(Clone, Debug, Deserialize)]
pub struct WorldTime {
    pub nanoseconds: u64,
    /// How many of the flows it allows.
    pub allowed: usize,
}

fn start(name: &str, argument: &str) -> Result<Child> {
    let mut command = Command::new(paths::built("reference", name)?);
    command.arg(argument).env("GOMAXPROCS", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("start {name}"))
}

/// The worlds of the test cases that cyclonus generates. They have no flows.
pub fn cyclonus_cases() -> Result<Vec<ReferenceWorld>> {
    let output = start("policy-reference", "cyclonus-cases")?.wait_with_output()?;
    ensure!(output.status.success(), "policy-reference failed: {}", output.status);
    serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(|world| Ok(world?)).collect()
}

/// Asks both engines about worlds, and passes on each world with the answer while the next ones are made and judged.
pub fn judge<W>(worlds: W, each: impl FnMut(ReferenceWorld, ReferenceVerdicts) -> Result<()>) -> Result<()>
where
    W: Iterator<Item = ReferenceWorld> + Send,
{
    exchange(start("policy-reference", "judge")?, worlds, each)
}

/// Asks both engines, built for speed, how long they take for a world on one core.
pub fn time(world: ReferenceWorld) -> Result<ReferenceTimes> {
    let mut found = None;
    exchange(start("policy-reference-optimized", "time")?, [world].into_iter(), |_, times| {
        found = Some(times);
        Ok(())
    })?;
    found.context("policy-reference-optimized gave no answer")
}

fn exchange<W, A>(mut child: Child, worlds: W, mut each: impl FnMut(ReferenceWorld, A) -> Result<()>) -> Result<()>
where
    W: Iterator<Item = ReferenceWorld> + Send,
    A: DeserializeOwned,
{
    let stdin = child.stdin.take().context("the program has no stdin")?;
    let stdout = BufReader::new(child.stdout.take().context("the program has no stdout")?);
    let answered = thread::scope(|scope| {
        let (asked, waiting) = mpsc::sync_channel(UNANSWERED);
        scope.spawn(move || ask(stdin, worlds, &asked));
        for line in stdout.lines() {
            let answer = serde_json::from_str(&line?)?;
            each(waiting.recv().context("an answer to nothing")?, answer)?;
        }
        // The program answers every world before it ends.
        ensure!(waiting.recv().is_err(), "the program ended too early");
        Ok(())
    });
    if answered.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    answered?;
    ensure!(status.success(), "the program failed: {status}");
    Ok(())
}

/// Writes worlds until the program or the receiver has ended.
fn ask(mut stdin: ChildStdin, worlds: impl Iterator<Item = ReferenceWorld>, asked: &mpsc::SyncSender<ReferenceWorld>) {
    for world in worlds {
        let Ok(mut line) = serde_json::to_vec(&world) else { return };
        line.push(b'\n');
        if asked.send(world).is_err() || stdin.write_all(&line).is_err() {
            return;
        }
    }
}
