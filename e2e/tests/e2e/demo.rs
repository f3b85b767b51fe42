//! The demo as a new user runs it: it shows what it promises, and leaves nothing behind however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use policy_baseline::PolicyBaseline;
use policy_baseline_e2e::{TIMEOUT, World, eventually};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::docs::page;
use crate::samples::shell_blocks;
use crate::walkthroughs::{Reader, follow};

/// The longest time for any part of the demo on a busy machine.
const CAP: Duration = Duration::from_mins(2);
const MARK: &str = "POLICY_BASELINE_DEMO_TEST";

#[tokio::test]
async fn two_demos_at_once_both_show_what_they_promise() {
    let to_the_end = [("DEMO_ONCE", "1")];
    let (mut one, mut other) = (Demo::start_with(&to_the_end), Demo::start_with(&to_the_end));
    for demo in [&mut one, &mut other] {
        let page = demo.rest().await;
        assert_eq!(demo.exit_code(), 0, "{}\n{}", page.join("\n"), demo.complaints());
        assert_eq!(demo.complaints(), "");
        assert_promises(&page);
        for line in &page {
            assert!(line.chars().count() <= 100, "{line}");
            assert!(!line.contains('\x1b'), "{line}");
        }
        demo.assert_gone();
    }
}

#[tokio::test]
async fn the_demo_stays_up_for_its_user_until_ctrl_c() {
    let mut demo = Demo::start();
    let kubeconfig = demo.line_with("export KUBECONFIG=").await.split_once('=').unwrap().1.to_owned();
    let config = Kubeconfig::read_from(&kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let user = Client::try_from(config).unwrap();
    assert!(Api::<PolicyBaseline>::all(user.clone()).get("platform").await.unwrap().status.is_some());

    let metadata = ObjectMeta { name: Some("mine".to_owned()), ..ObjectMeta::default() };
    let mine = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(user).create(&PostParams::default(), &mine).await.unwrap();
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..4 {
        seen.push(demo.line_with("created  mine/").await.trim().to_owned());
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "created  mine/baseline-allow-same-namespace",
            "created  mine/baseline-default-deny-egress",
            "created  mine/baseline-default-deny-ingress",
            "created  mine/baseline-monitoring-carveout",
        ]
    );

    demo.signal(Signal::INT);
    assert_eq!(demo.rest().await.last().map(String::as_str), Some("   Everything has been stopped and removed."));
    assert_eq!(demo.exit_code(), 0);
    demo.assert_gone();
    assert!(!Path::new(&kubeconfig).exists());
}

#[tokio::test]
async fn every_command_of_the_quickstart_works_in_the_demo() {
    let blocks = shell_blocks(&page("quickstart.md"));
    assert_eq!(blocks[0], "make demo\n");
    let mut demo = Demo::start();
    let kubeconfig = demo.line_with("export KUBECONFIG=").await.split_once('=').unwrap().1.to_owned();
    let kubectl = demo.line_with("If you have no kubectl, call it as ").await.split_once("call it as ").unwrap().1.to_owned();
    let reader = Reader::new(Path::new(&kubeconfig), &root().join(kubectl.trim()));
    follow(
        &reader,
        &blocks[1..],
        &[
            ("kubectl get policybaseline platform -o wide", 0, &["Enforce", "Protected"]),
            ("kubectl create namespace mine", 0, &["condition met", "baseline-allow-same-namespace"]),
            ("policy-baseline explain namespace mine", 0, &["platform"]),
            ("kubectl delete networkpolicy", 0, &["deleted", "condition met"]),
            ("kubectl patch policybaseline platform", 0, &["patched"]),
            ("policy-baseline explain namespace mine", 1, &[]),
        ],
    );
    demo.signal(Signal::INT);
    demo.rest().await;
    assert_eq!(demo.exit_code(), 0);
    demo.assert_gone();
}

#[tokio::test]
async fn a_demo_that_is_stopped_while_it_starts_leaves_nothing() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut demo = Demo::start();
        demo.until_it_runs("etcd").await;
        demo.signal(signal);
        demo.rest().await;
        assert_eq!(demo.exit_code(), code, "{}", demo.complaints());
        demo.assert_gone();
    }
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_nothing() {
    let mut demo = Demo::start();
    demo.until_it_runs("policy-baseline").await;
    demo.signal(Signal::KILL);
    eventually("every process of the demo is gone", TIMEOUT, async || is_empty(&demo.processes())).await.unwrap();
    let state = demo.state.clone().unwrap();
    eventually("its state is gone", TIMEOUT, async || !state.exists()).await.unwrap();
}

#[tokio::test]
async fn a_demo_whose_operator_ends_says_so() {
    // Any program that has no command `run`.
    let mut demo = Demo::start_with(&[("E2E_OPERATOR", env!("CARGO_BIN_EXE_e2e-guard"))]);
    demo.rest().await;
    assert_eq!(demo.exit_code(), 1);
    let said = demo.complaints();
    let first = said.trim_start().lines().next().unwrap_or_default();
    assert_eq!(first, "The demo failed: step 2: the operator has ended (its exit code is 125)");
    assert!(said.contains("The end of the operator's log") && said.contains("expected -- after LOGFILE"), "{said}");
    demo.assert_gone();
}

#[test]
fn a_demo_that_cannot_start_says_why() {
    let mut command = demo_command();
    let output = command.env("E2E_KUBECONFIG", "somebody's").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("\nThe demo failed: E2E_KUBECONFIG is set"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}

/// Asserts the output that a user must have seen at the end.
fn assert_promises(page: &[String]) {
    // Ignores columns and line breaks.
    let page = page.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ");
    let mut rest = page.as_str();
    let mut next = |promise: &str| match rest.split_once(promise) {
        Some((_, after)) => {
            rest = after;
            after.to_owned()
        }
        None => panic!("{promise:?} is missing, or comes too early:\n{page}"),
    };
    next("- name: same-namespace ingress: [{from: [{sameNamespace: {}}]}] egress: [{to: [{sameNamespace: {}}]}]");
    next("$ kubectl apply -f manifests/samples/allows/same-namespace.yaml");
    for namespace in ["default", "payments", "shop"] {
        next(&format!("{namespace} 0 of 4 REPORTED"));
    }
    next("$ kubectl create namespace orders");
    for policy in ["allow-same-namespace", "default-deny-ingress", "default-deny-egress", "monitoring-carveout"] {
        assert_took(&next(&format!("baseline-{policy} ")));
    }
    next("The allow came first");
    assert_took(&next("orders was PROTECTED "));
    for state in ["default 0 of 4 REPORTED", "orders 4 of 4 PROTECTED", "payments 0 of 4 REPORTED", "shop 0 of 4 REPORTED"] {
        next(state);
    }
    next("existingNamespaces");
    assert_took(&next("payments and shop were PROTECTED "));
    for namespace in ["default", "orders", "payments", "shop"] {
        next(&format!("{namespace} 4 of 4 PROTECTED"));
    }
    next("$ kubectl --as=mallory delete networkpolicy baseline-default-deny-ingress -n payments");
    assert_took(&next("Back as it was after "));
    next("$ kubectl --as=mallory patch networkpolicy baseline-default-deny-egress -n payments");
    assert_took(&next("Closed again after "));
    let uid = next("UID ");
    assert!(uid[36..].starts_with(", unchanged"), "{uid}");
    next("Warning DriftRepaired baseline-default-deny-ingress Missing: ");
    next("Warning DriftRepaired baseline-default-deny-egress SpecChanged: ");
    next("platform Enforce 4 4 0 0 True Protected ");
    next("Ready True Protected");
    next("Stalled False");
    next("payments/baseline-default-deny-egress SpecChanged kubectl-patch");
    next("payments/baseline-default-deny-ingress Missing unknown");
    next(r#"$ kubectl patch pb platform --type=merge -p '{"spec":{"excludeNamespaces":["*"]}}'"#);
    next("platform Enforce 12 0 0 0 False AwaitingConfirmation ");
    next("AwaitingConfirmation True AwaitingConfirmation 12 of the 12 closed namespaces that this change concerns would lose");
    next("annotate the baseline with policybaseline.io/confirm-release=3");
    next("All 48 policies are still there");
    next(r#"$ kubectl patch pb platform --type=merge -p '{"spec":{"excludeNamespaces":["sandbox-*"]}}'"#);
    next("platform Enforce 12 12 0 0 True Protected ");
    next("All 48 policies are the same as before the typo");
    next("Everything has been stopped and removed.");
}

/// Asserts that the text begins with a time in milliseconds that is plausible for a wait of the demo.
fn assert_took(text: &str) {
    let text = text.strip_prefix("under ").unwrap_or(text);
    let (number, _) = text.split_once(" ms").unwrap_or_else(|| panic!("no time: {text}"));
    let took: u128 = number.parse().unwrap_or_else(|err| panic!("{err}: {text}"));
    assert!(took < TIMEOUT.as_millis(), "{took}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn demo_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2e-demo"));
    for name in ["E2E_KUBECONFIG", "E2E_KEEP", "DEMO_ONCE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Demo {
    child: Child,
    lines: UnboundedReceiver<String>,
    /// Every process that the demo starts inherits this environment variable, and no other process has it.
    mark: String,
    state: Option<PathBuf>,
}

impl Demo {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(envs: &[(&str, &str)]) -> Self {
        let value = World::unique("demo");
        let mut command = demo_command();
        command.env(MARK, &value).envs(envs.iter().copied());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = unbounded_channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, mark: format!("{MARK}={value}"), state: None }
    }

    async fn line(&mut self) -> Option<String> {
        let line = timeout(CAP, self.lines.recv()).await.expect("the demo says nothing");
        if let Some((_, log)) = line.as_deref().and_then(|line| line.split_once("Its log is ")) {
            self.state = root().join(log).parent().map(Path::to_owned);
        }
        line
    }

    async fn line_with(&mut self, text: &str) -> String {
        while let Some(line) = self.line().await {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the demo ended before it said {text:?}: {}", self.complaints());
    }

    /// Reads all lines until it ends.
    async fn rest(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(line) = self.line().await {
            all.push(line);
        }
        all
    }

    /// The exit code. Call it after stdout has ended.
    fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    fn complaints(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn until_it_runs(&mut self, name: &str) {
        let what = format!("{name} runs");
        let etcd = eventually(&what, CAP, async || {
            let all = self.processes();
            let at = all.iter().position(|words| words[0].ends_with(&format!("/{name}")));
            let data = all.iter().flatten().find_map(|word| word.strip_prefix("--data-dir=")).map(PathBuf::from);
            at.and(data)
        });
        self.state = etcd.await.unwrap().parent().map(Path::to_owned);
    }

    /// The command lines of the demo and of all processes that it has started. Empty on systems other than Linux.
    fn processes(&self) -> Vec<Vec<String>> {
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        let words = |path: PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            text.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = |dir: &PathBuf| words(dir.join("environ")).contains(&self.mark);
        all.flatten()
            .map(|entry| entry.path())
            .filter(ours)
            .map(|dir| words(dir.join("cmdline")))
            .filter(|words| !words.is_empty())
            .collect()
    }

    /// Checks at once, without waiting, because the demo itself must have waited.
    fn assert_gone(&self) {
        assert_eq!(self.processes(), Vec::<Vec<String>>::new());
        let state = self.state.as_ref().expect("the demo told where its state is");
        assert!(!state.exists(), "{}", state.display());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_empty(processes: &[Vec<String>]) -> Result<bool, String> {
    if processes.is_empty() { Ok(true) } else { Err(format!("{processes:?} run")) }
}
