//! What a recording says: where a flow was recorded, what is known of pods and namespaces that are gone, and lines that cannot be read.

use serde_json::{Value, json};

use super::{baseline, hubble, judge, line, shop};
use crate::policy::{
    flow::{
        FlowDecision, FlowDump,
        tests::{pod, policy, snapshot, with_ports},
    },
    would_break::Recording,
};

#[test]
fn a_flow_to_a_cluster_ip_that_somebody_wrote_goes_to_the_pods_behind_it() {
    let closed = policy("shop/db", json!({"podSelector": {"matchLabels": {"role": "copy"}}}));
    let service = |name: &str, address: &str, spec: Value| {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name}, "spec": spec});
        object["spec"]["clusterIPs"] = json!([address]);
        object
    };
    let mut objects = shop();
    objects.extend([
        with_ports(pod("shop/db-1", json!({"app": "db"}), &["10.0.0.10"]), &[("sql", 5432)]),
        service("sql", "10.96.0.8", json!({"selector": {"app": "db"}, "ports": [{"port": 80, "targetPort": "sql"}]})),
        service("none", "10.96.0.9", json!({"selector": {"app": "none"}, "ports": [{"port": 80}]})),
        service("fixed", "10.96.0.11", json!({"ports": [{"port": 443}]})),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "fixed-1", "labels": {"kubernetes.io/service-name": "fixed"}},
            "endpoints": [{"addresses": ["203.0.113.7"]}], "ports": [{"port": 8443}]}),
    ]);
    let of = |objects: &[Value], to: &str, port: &str| {
        judge(&snapshot(objects), &[line("shop/web-7d4b-1", to, port)], Some(&baseline(&json!({}))))
    };
    for (to, port, expected) in [
        ("10.96.0.8", "80", Some(("shop/db", 5432))),
        ("10.96.0.7", "5432", Some(("shop/db", 5432))),
        ("10.96.0.11", "443", Some(("203.0.113.7", 8443))),
        ("10.96.0.9", "80", None),
        ("10.96.0.8", "81", None),
    ] {
        let found = of(&objects, to, port);
        let broken: Vec<(&str, u16)> = found.broken.iter().map(|flows| (&*flows.to, flows.ports[0].number)).collect();
        assert_eq!(broken, Vec::from_iter(expected), "{to}: {found}");
        assert_eq!(
            (found.lines, found.flows, found.not_judged),
            (1, broken.len() as u64, u64::from(expected.is_none())),
            "{found}"
        );
    }
    // Of pods that policies tell apart, each kind is judged.
    objects.extend([closed, pod("shop/db-copy-0", json!({"app": "db", "role": "copy"}), &["10.0.0.12"])]);
    let lines = [line("shop/web-7d4b-1", "10.96.0.7", "5432")];
    let found = judge(&snapshot(&objects), &lines, None);
    assert_eq!((found.flows, found.not_allowed), (2, 1), "{found}");
}

#[test]
fn a_namespace_that_no_cluster_can_have_is_not_judged() {
    let lines = [hubble("web-1", &["k8s:app=web"], "203.0.113.7", false).replace("\"shop\"", "\"A_b\"")];
    let found = judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({}))));
    assert_eq!(
        (found.flows, found.not_judged, &*found.warnings),
        (0, 1, &["nothing is known of these pods: A_b/web-1".to_owned()][..])
    );
}

#[test]
fn events_that_were_lost_make_the_answer_doubtful() {
    let lost =
        |count: u32| json!({"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": count.to_string()}}).to_string();
    let lines = [lost(4000), lost(1000), line("shop/db-0", "kube-system/coredns-1", "UDP/53")];
    let found = judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({}))));
    assert!(
        found.warnings[0].starts_with("the network plugin lost 5000 events before they were recorded, so flows may be missing"),
        "{found}"
    );
}

#[test]
fn what_cannot_be_read_before_the_baseline_is_no_promise() {
    let broken = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "broken"},
        "spec": {"ingress": "nothing"}});
    let objects: Vec<Value> = shop().into_iter().chain([broken]).collect();
    let lines = [line("kube-system/coredns-1", "shop/db-0", "5432")];
    let dump = FlowDump::read(&json!({"kind": "List", "apiVersion": "v1", "items": objects}).to_string()).unwrap();
    let world = dump.objects.into_iter().collect();
    let found = judge(&world, &lines, Some(&baseline(&json!({"policies": ["DefaultDenyIngress"]}))));
    assert_eq!((found.not_allowed, found.denied_already, found.undecided_already), (0, 0, 1), "{found}");
    assert!(found.to_string().starts_with("nothing that was judged would break: "), "{found}");
    assert!(found.to_string().contains("\n1 are undecided, with and without the baseline\n"), "{found}");
}

/// A flow between two pods as Hubble records it at one of its ends.
fn hubble_between(verdict: &str, direction: &str) -> String {
    let flow = json!({
        "time": "2026-11-30T11:30:00Z", "verdict": verdict, "is_reply": false, "traffic_direction": direction,
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.9"}, "l4": {"TCP": {"destination_port": 5432, "flags": {"SYN": true}}},
        "source": {"namespace": "shop", "pod_name": "web-7d4b-1"}, "destination": {"namespace": "shop", "pod_name": "db-0"},
    });
    json!({"flow": flow}).to_string()
}

#[test]
fn what_makes_an_answer_doubtful_is_said() {
    let lines =
        [hubble("web-1", &["k8s:app=web"], "203.0.113.7", false).replace("shop", "gone"), line("shop/nobody", "shop/db-0", "80")];
    let found =
        judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({"namespaceSelector": {"matchLabels": {"tier": "prod"}}}))));
    assert_eq!(
        found.warnings,
        [
            "these namespaces are not among the objects, so of their labels only the name is known: gone",
            "the baseline selects none of these namespaces: look at namespaceSelector, excludeNamespaces and policies",
            "nothing is known of these pods: shop/nobody",
        ]
    );
}

#[test]
fn namespaces_that_the_dump_lacks_are_closed_too() {
    let objects: Vec<Value> = shop().into_iter().filter(|object| object["kind"] != "Namespace").collect();
    let lines = [line("shop/web-7d4b-1", "shop/db-0", "5432")];
    let found = judge(&snapshot(&objects), &lines, Some(&baseline(&json!({}))));
    assert_eq!((found.not_allowed, found.namespaces), (1, Some(1)));
}

#[test]
fn namespaces_that_the_dump_lacks_have_the_labels_that_were_recorded() {
    let only_prod = baseline(&json!({"namespaceSelector": {"matchLabels": {"tier": "prod"}}}));
    let found = |labels: &[&str]| {
        let lines = [hubble("web-1", labels, "203.0.113.7", false).replace("\"shop\"", "\"new\"")];
        judge(&snapshot(&shop()), &lines, Some(&only_prod))
    };
    let prod = found(&["k8s:app=web", "k8s:io.cilium.k8s.namespace.labels.tier=prod"]);
    assert_eq!((prod.not_allowed, prod.namespaces, &*prod.warnings), (1, Some(1), &[][..]));
    let unknown = found(&["k8s:app=web"]);
    assert_eq!((unknown.not_allowed, unknown.warnings.len()), (0, 2), "{:?}", unknown.warnings);
}

#[test]
fn a_flow_that_was_dropped_where_it_would_arrive_breaks_nothing() {
    let [sent, arrived, dropped] = [("FORWARDED", "EGRESS"), ("FORWARDED", "INGRESS"), ("DROPPED", "INGRESS")]
        .map(|(verdict, direction)| hubble_between(verdict, direction));
    let found = |lines: &[&String]| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).clone()).collect();
        let found = judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({}))));
        let passed = found.passed_over.values().sum::<u64>();
        (found.not_allowed, passed)
    };
    assert_eq!(found(&[&sent, &arrived]), (1, 0), "it is recorded at both ends");
    assert_eq!(found(&[&sent, &sent, &arrived]), (2, 0), "one agent lost an event");
    assert_eq!(found(&[&sent]), (1, 0), "the other agent records nothing");
    assert_eq!(found(&[&sent, &dropped]), (0, 2));
    assert_eq!(found(&[&dropped, &sent]), (0, 2), "in any order");
    assert_eq!(found(&[&sent, &dropped, &arrived]), (1, 1), "it arrived at another time");
    assert_eq!(found(&[&sent, &sent, &dropped]), (2, 1), "not all of them were dropped");
}

#[test]
fn each_file_has_a_format_of_its_own_and_a_line_that_was_cut_costs_only_itself() {
    let mut recording = Recording::new(snapshot(&shop()), None);
    for _ in 0..2 {
        recording.begin_file();
        for line in ["\u{feff}from,to,port", "shop/db-0,10.0.0.1,80"] {
            recording.line(line, String::new).unwrap();
        }
    }
    recording.begin_file();
    for line in ["orwarded\"}}", &line("shop/db-0", "10.0.0.1", "80")] {
        recording.line(line, String::new).unwrap();
    }
    let found = recording.judge(None);
    assert_eq!((found.flows, found.unreadable, found.not_judged), (3, 1, 1));
}

#[test]
fn with_a_selector_only_the_flows_of_such_pods_are_judged() {
    let lines = [
        line("shop/web-7d4b-1", "shop/db-0", "5432"),
        line("kube-system/coredns-1", "10.0.0.1", "53"),
        line("shop/db-0", "8.8.8.8", "53"),
    ];
    let flows = |query: &str| {
        let baseline = baseline(&json!({}));
        let mut recording = Recording::new(snapshot(&shop()), Some(&baseline)).only(Some(query.parse().unwrap()));
        for line in &lines {
            recording.line(line, String::new).unwrap();
        }
        let found = recording.judge(Some(&baseline));
        let broken = found.broken.iter().map(|flows| format!("{} {}", flows.from, flows.to)).collect::<Vec<_>>();
        (found.flows, found.lines, broken)
    };
    let (web_db, db_out) = ("shop/web shop/db".to_owned(), "shop/db 8.8.8.8".to_owned());
    assert_eq!(flows("app=db"), (2, 3, vec![db_out, web_db.clone()]), "as source and as destination");
    let dns_web = "kube-system/kube-dns shop/web".to_owned();
    assert_eq!(flows("app=web"), (2, 3, vec![dns_web, web_db]), "10.0.0.1 is such a pod, too");
    assert_eq!(flows("app=x"), (0, 3, vec![]));
    assert_eq!(flows("").0, 3);
}

#[test]
fn a_file_is_json_or_csv_and_nothing_else_is_lost() {
    let mut recording = Recording::new(snapshot(&shop()), None);
    let at = || "flows.csv, line 1".to_owned();
    recording.line("# written by hand", at).unwrap();
    recording.line("from,to,port", at).unwrap();
    recording.line("shop/db-0,10.0.0.1,80", at).unwrap();
    recording.line("shop/db-0,10.0.0.1", at).unwrap();
    recording.begin_file();
    recording.line(&line("shop/db-0", "10.0.0.1", "80"), at).unwrap();
    let found = recording.judge(None);
    assert_eq!((found.flows, found.unreadable, found.unreadable_lines.len()), (2, 1, 1));
    assert!(Recording::new(snapshot(&shop()), None).line("hello", at).unwrap_err().contains("head of CSV"));
}

#[test]
fn two_pods_of_one_workload_that_are_gone_are_not_one_pod() {
    let flow = |from: &str, to: &str| {
        let labels = ["k8s:app=es"];
        let flow = json!({
            "verdict": "FORWARDED", "is_reply": false, "IP": {"source": "10.0.0.71", "destination": "10.0.0.72"},
            "l4": {"TCP": {"destination_port": 9300}},
            "source": {"namespace": "shop", "pod_name": from, "labels": labels},
            "destination": {"namespace": "shop", "pod_name": to, "labels": labels},
        });
        flow.to_string()
    };
    let lines = [flow("es-1", "es-2")];
    let found = judge(&snapshot(&shop()), &lines, Some(&baseline(&json!({}))));
    assert_eq!((found.not_allowed, found.suggestions.len()), (1, 2), "{found}");
    // A pod that runs on the node of the other end now was elsewhere then.
    let on_node = [json!({
        "verdict": "FORWARDED", "is_reply": false, "IP": {"source": "192.168.0.1", "destination": "10.0.0.72"},
        "l4": {"TCP": {"destination_port": 80}}, "source": {"labels": ["reserved:remote-node"]},
        "destination": {"namespace": "shop", "pod_name": "web-0-1", "labels": ["k8s:app=web"]},
    })
    .to_string()];
    assert_eq!(judge(&snapshot(&shop()), &on_node, Some(&baseline(&json!({})))).not_allowed, 1);
}

#[test]
fn a_pod_that_has_ended_since_is_judged_by_its_labels() {
    let mut job = pod("shop/job-1", json!({"app": "job"}), &["10.0.0.1"]);
    job["status"]["phase"] = "Succeeded".into();
    let objects: Vec<Value> = shop().into_iter().chain([job]).collect();
    let lines = [line("shop/job-1", "shop/db-0", "5432"), line("10.0.0.1", "203.0.113.7", "443")];
    let found = judge(&snapshot(&objects), &lines, Some(&baseline(&json!({}))));
    let told: Vec<(&str, FlowDecision)> = found.broken.iter().map(|flows| (&*flows.from, flows.decision)).collect();
    assert_eq!(
        told,
        [("shop/job", FlowDecision::Denied), ("shop/web", FlowDecision::Denied)],
        "its address is another pod's now"
    );
}
