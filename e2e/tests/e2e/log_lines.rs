//! Each change is one log line. What stays broken is logged once when it begins, and once when it is over, however often the operator tries
//! again.

use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::proxy::{Asked, Exchange, Fault, Moment, When};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::json;

use crate::dns::block;
use crate::faults::{PLATFORM, behind_a_proxy};
use crate::faults_watches::{expire_watches_of, is_list};
use crate::opt_outs::{self, opt_out, seconds_from_now};
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, condition, merge, policies_of, until_holds, until_only, until_ready,
    until_status,
};
use crate::support::{TEAM, label, remove_baseline, team};

const REFUSED: Fault = Fault::Answer(500, Moment::Before);
/// So many attempts fail before the lines are counted.
const ATTEMPTS: usize = 3;

/// What is broken for a while, and what the operator logs.
struct Case {
    /// The requests that are refused.
    about: fn(&Asked) -> bool,
    /// Whether these are lists. Otherwise they are writes that a change of a policy leads to.
    are_lists: bool,
    begins: &'static str,
    ends: &'static str,
}

fn is_policy_write(asked: &Asked) -> bool {
    asked.is_write() && asked.is_of("networkpolicies")
}

fn is_status_write(asked: &Asked) -> bool {
    asked.is_write() && asked.is_of("policybaselines")
}

fn is_policy_list(asked: &Asked) -> bool {
    is_list(asked) && asked.is_of("networkpolicies")
}

const CASES: [Case; 3] = [
    Case { about: is_policy_write, are_lists: false, begins: "write failed, trying again", ends: "drift repaired" },
    Case {
        about: is_status_write,
        are_lists: false,
        begins: "status not written, trying again",
        ends: "the status can be written again",
    },
    Case {
        about: is_policy_list,
        are_lists: true,
        begins: "networkpolicies cannot be watched, trying again: the API server answers 500",
        ends: "the watch works again",
    },
];

#[tokio::test]
async fn i9_what_stays_refused_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let Some((mut world, proxy)) = behind_a_proxy().await else { return };
    world.start_operator().await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    until_ready(&world, PLATFORM).await;
    for (round, Case { about, are_lists, begins, ends }) in CASES.into_iter().enumerate() {
        let told = |text: &str| world.operator().unwrap().log().matches(text).count();
        let before = [begins, ends].map(told);
        let mark = proxy.mark();
        proxy.on(about, When::Always, REFUSED);
        if are_lists {
            expire_watches_of(&proxy, &["networkpolicies"]);
        } else {
            // A change of a policy: its repair and then the status are written.
            let opened = json!({ "spec": { "ingress": [{ "ports": [{ "port": 1000 + round }] }] } });
            merge(&policies_of(&world.admin(), &team), DENY_INGRESS, "tenant", &opened).await;
        }
        let refused = |exchange: &&Exchange| about(&exchange.asked) && exchange.fault == Some(REFUSED);
        let attempts = async || proxy.since(mark).iter().filter(refused).count() >= ATTEMPTS;
        world.eventually(&format!("{ATTEMPTS} attempts: {begins}"), TIMEOUT * 2, attempts).await.unwrap();
        assert_eq!(told(begins), before[0] + 1, "{begins}:\n{}", world.operator().unwrap().log_tail(40));
        assert_eq!(told(ends), before[1], "{ends}");

        proxy.calm();
        world.eventually(&format!("it ends: {ends}"), TIMEOUT * 2, async || told(ends) > before[1]).await.unwrap();
        until_holds(&world, &team, &Plan::of(PLATFORM)).await;
        until_ready(&world, PLATFORM).await;
        assert_eq!([begins, ends].map(told), before.map(|count| count + 1), "{begins}; {ends}");
    }
}

#[tokio::test]
async fn i9_a_resolv_conf_that_cannot_be_read_is_logged_once_reported_and_holds_nothing_up() {
    let mut world = World::new().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let file = path.display().to_string();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    world.start_operator_with(&[&format!("--resolv-conf={file}")]).await.unwrap();
    let team = world.namespace("team", &[]).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM)).await;
    let is_told = |status: &PolicyBaselineStatus| {
        let notes = status.dns.as_ref().map(|dns| dns.notes.join("\n")).unwrap_or_default();
        notes.contains(&format!("{file}: No such file")) && condition(status, "DNSCoverage").reason == "DNSNotReadable"
    };
    let status = until_status(&world, PLATFORM, "why the file cannot be read", is_told).await;
    let message = condition(&status, "DNSCoverage").message;
    assert!(message.contains("cannot be read: resolv.conf"), "{message}");
    until_ready(&world, PLATFORM).await;
    let lines = |text: &str| lines(&world, &[text]);
    let begins = format!("the nameservers of pods cannot be read, trying again every minute: {file}: No such file or directory");
    let (told, of_the_file) = (lines(&begins), lines(&file));
    assert!(told.len() == 1 && told == of_the_file && told[0].contains("WARN"), "{of_the_file:#?}");

    std::fs::write(&path, "nameserver 10.96.0.10\n").unwrap();
    let ends = "the nameservers of pods can be read again";
    world.eventually("the file is read again", TIMEOUT * 4, async || !lines(ends).is_empty()).await.unwrap();
    until_holds(&world, &team, &Plan::of(PLATFORM).dns_peer(&block("10.96.0.10"))).await;
    until_status(&world, PLATFORM, "they are known", |status| condition(status, "DNSCoverage").status != "False").await;
    assert_eq!((lines(&begins), lines(ends).len()), (told, 1));
}

/// The lines of the log that contain all of these.
fn lines(world: &World, words: &[&str]) -> Vec<String> {
    let log = world.operator().unwrap().log();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

async fn until_logged(world: &World, words: &[&str]) -> String {
    let what = format!("one line with {words:?}");
    world.eventually(&what, TIMEOUT, async || !lines(world, words).is_empty()).await.unwrap();
    let [line] = &lines(world, words)[..] else { panic!("{:#?}", lines(world, words)) };
    line.clone()
}

const PICKED_UP: &str = "baseline picked up";
/// With the module: the line on Ready ends alike.
const CHANGED: &str = "baselines: baseline changed";
const READY: &str = "the condition Ready of the baseline changed";
const REMOVED: &str = "policy removed";

#[tokio::test]
async fn each_change_of_a_baseline_and_each_reason_of_ready_is_one_log_line_and_a_removed_policy_says_why() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let spec =
        |port: i32, suspend: bool| json!({ "namespaceSelector": team("a"), "dns": { "ports": [port] }, "suspend": suspend });
    apply_baseline(&world, PLATFORM, &spec(5301, false)).await;
    until_ready(&world, PLATFORM).await;
    let ns = world.namespace("team", &[(TEAM, "a")]).await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM).dns_port(5301)).await;
    let is_suspended = |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "Suspended";
    for (port, suspend) in [(5302, false), (5302, true), (5302, false)] {
        apply_baseline(&world, PLATFORM, &spec(port, suspend)).await;
        if suspend {
            until_status(&world, PLATFORM, "suspended", is_suspended).await;
        } else {
            until_holds(&world, &ns, &Plan::of(PLATFORM).dns_port(port)).await;
            until_ready(&world, PLATFORM).await;
        }
    }
    // With its name, generation and mode. It is picked up once, also if it is suspended and goes on.
    for (what, generation) in [(PICKED_UP, 1), (CHANGED, 2), (CHANGED, 3), (CHANGED, 4)] {
        let line = until_logged(&world, &[what, &format!("generation={generation}")]).await;
        assert!(line.contains(PLATFORM) && line.contains("Enforce"), "{line}");
    }
    assert_eq!((lines(&world, &[PICKED_UP]).len(), lines(&world, &[CHANGED]).len()), (1, 3));
    until_logged(&world, &[READY, "Suspended"]).await;
    // The line follows the answer to the status write.
    let is_told = async || lines(&world, &[READY]).last().is_some_and(|line| line.contains("Protected"));
    world.eventually("the last change of Ready is logged", TIMEOUT, is_told).await.unwrap();
    let ready = lines(&world, &[READY]);
    let reasons: Vec<&str> = ready.iter().filter_map(|line| line.split("reason=").nth(1)).collect();
    assert!(reasons.len() == ready.len() && reasons.windows(2).all(|two| two[0] != two[1]), "{ready:#?}");
    assert!(reasons.last().is_some_and(|last| last.contains("Protected")), "{ready:#?}");

    // What is removed, and why.
    let plan = Plan::of(PLATFORM).dns_port(5302);
    opt_outs::create(&world, &ns, &opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(600))).await;
    until_holds(&world, &ns, &plan.without("DefaultDenyEgress")).await;
    let line = until_logged(&world, &[REMOVED, DENY_EGRESS]).await;
    assert!(line.contains(&ns) && line.contains("partner"), "{line}");
    label(&world, &ns, TEAM, None).await;
    until_only(&world, &ns, &[]).await;
    let line = until_logged(&world, &[REMOVED, DENY_INGRESS]).await;
    assert!(line.contains("no longer selects"), "{line}");
    assert_eq!(lines(&world, &[REMOVED]).len(), 3);

    remove_baseline(&world, PLATFORM).await;
    let line = until_logged(&world, &["baseline removed"]).await;
    assert!(line.contains(PLATFORM) && line.contains("generation=4") && line.contains("Enforce"), "{line}");
}
