//! Lines of each format: what they say, why they are passed over, and why they cannot be read.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(line: &Value) -> RecordedLine {
    RecordedLine::read_json(&line.to_string()).unwrap()
}

fn pod(id: &str, labels: &[(&str, &str)], address: &str) -> RecordedEnd {
    let (namespace, name) = id.split_once('/').unwrap();
    let labels = Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    let (namespace, name, address) = (namespace.to_owned(), name.to_owned(), super::address(address));
    RecordedEnd::Pod(RecordedPod { namespace, name, labels, address, ..RecordedPod::default() })
}

/// A flow as Hubble writes it: the fields of the message Flow, in the JSON of protobuf.
fn hubble() -> Value {
    json!({
        "time": "2026-11-30T10:00:00.123456789Z", "verdict": "FORWARDED", "Type": "L3_L4", "is_reply": false,
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 41000, "destination_port": 5432, "flags": {"SYN": true}}},
        "source": {"identity": 1001, "namespace": "shop", "pod_name": "web-1",
            "labels": ["k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop"]},
        "destination": {"identity": 1002, "namespace": "shop", "pod_name": "db-0", "labels": ["k8s:app=db"]},
        "traffic_direction": "EGRESS", "trace_observation_point": "TO_ENDPOINT",
    })
}

#[test]
fn a_flow_of_hubble_is_read_with_the_labels_of_its_pods() {
    let at = "2026-11-30T10:00:00.123456789Z".parse().unwrap();
    let flow = RecordedLine::Flow(Box::new(RecordedFlow {
        from: pod("shop/web-1", &[("app", "web")], "10.0.0.1"),
        to: pod("shop/db-0", &[("app", "db")], "10.0.0.2"),
        protocol: Protocol::TCP,
        port: 5432,
        count: 1,
        seen: Some((at, at)),
        at: RecordedAt::Destination,
        is_written: false,
    }));
    assert_eq!(read(&json!({"flow": hubble(), "node_name": "node-1", "time": "2026-11-30T10:00:00Z"})), flow, "as jsonpb");
    assert_eq!(read(&hubble()), flow, "as json");
}

#[test]
fn an_end_of_hubble_without_a_pod_is_its_address() {
    let mut flow = hubble();
    flow["destination"] = json!({"identity": 2, "labels": ["reserved:world"]});
    flow["IP"]["destination"] = "203.0.113.7".into();
    let RecordedLine::Flow(read) = read(&flow) else { panic!() };
    assert_eq!(read.to, RecordedEnd::Address("203.0.113.7".parse().unwrap()));
}

#[test]
fn a_pod_of_which_hubble_knows_only_the_labels_is_a_pod() {
    let mut flow = hubble();
    flow["destination"] = json!({"identity": 2222, "labels": ["k8s:app=db", "k8s:io.kubernetes.pod.namespace=shop"]});
    let RecordedLine::Flow(read) = read(&flow) else { panic!() };
    assert_eq!(read.to, pod("shop/", &[("app", "db")], "10.0.0.2"));
}

#[test]
fn what_no_policy_would_deny_is_passed_over_for_a_reason() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut flow = hubble();
        change(&mut flow);
        match read(&json!({"flow": flow})) {
            RecordedLine::Passed(why) => Some(why),
            RecordedLine::Flow(_) | RecordedLine::Lost(_) => None,
        }
    };
    assert_eq!(with(&|flow| flow["is_reply"] = true.into()), Some(PassedOver::Reply));
    assert_eq!(with(&|flow| flow["verdict"] = "DROPPED".into()), Some(PassedOver::Dropped));
    assert_eq!(with(&|flow| flow["verdict"] = "TRANSLATED".into()), Some(PassedOver::OtherEvent));
    assert_eq!(with(&|flow| flow["verdict"] = "REDIRECTED".into()), None, "a proxy got it");
    assert_eq!(with(&|flow| flow["Type"] = "L7".into()), Some(PassedOver::OtherEvent));
    assert_eq!(with(&|flow| flow["l4"] = json!({"ICMPv4": {"type": 8}})), Some(PassedOver::NoPort));
    assert_eq!(with(&|flow| flow["l4"] = json!({"TCP": {"source_port": 5}})), Some(PassedOver::NoPort));
    assert_eq!(with(&|flow| flow["source"]["labels"] = json!(["reserved:host"])), Some(PassedOver::Node), "kubelet");
    assert_eq!(with(&|flow| flow["destination"]["labels"] = json!(["reserved:health"])), Some(PassedOver::Node));
    // An agent that does not know whether it is a reply writes no field.
    let unknown = |flow: &mut Value| drop(flow.as_object_mut().unwrap().remove("is_reply"));
    assert_eq!(with(&unknown), None, "the first packet of a connection");
    assert_eq!(with(&|flow| (unknown(flow), flow["l4"]["TCP"]["flags"]["ACK"] = true.into()).1), Some(PassedOver::Reply));
    assert_eq!(with(&|flow| (unknown(flow), flow["l4"]["TCP"]["flags"] = json!({"ACK": true})).1), Some(PassedOver::NoDirection));
    assert_eq!(
        with(&|flow| (unknown(flow), flow["l4"] = json!({"UDP": {"destination_port": 53}})).1),
        Some(PassedOver::NoDirection)
    );
    assert_eq!(with(&|flow| (unknown(flow), flow["reply"] = true.into()).1), Some(PassedOver::Reply), "the older field");
    assert_eq!(read(&json!({"node_status": {"state_change": "NODE_CONNECTED"}})), RecordedLine::Passed(PassedOver::OtherEvent));
    for (lost, count) in [(json!({"num_events_lost": "5"}), 5), (json!({"num_events_lost": 7}), 7), (json!({}), 1)] {
        assert_eq!(read(&json!({"lost_events": lost})), RecordedLine::Lost(count));
    }
}

#[test]
fn where_a_flow_was_recorded_is_told() {
    let of_hubble = |change: &dyn Fn(&mut Value)| {
        let mut flow = hubble();
        flow["traffic_direction"] = "EGRESS".into();
        flow["trace_observation_point"] = "TO_OVERLAY".into();
        change(&mut flow);
        match read(&flow) {
            RecordedLine::Flow(flow) => flow.at,
            other @ (RecordedLine::Passed(_) | RecordedLine::Lost(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(of_hubble(&|_| ()), RecordedAt::Source, "it goes to another node");
    assert_eq!(of_hubble(&|flow| flow["trace_observation_point"] = "TO_ENDPOINT".into()), RecordedAt::Destination);
    assert_eq!(of_hubble(&|flow| flow["traffic_direction"] = "INGRESS".into()), RecordedAt::Destination);
    assert_eq!(of_hubble(&|flow| drop(flow.as_object_mut().unwrap().remove("traffic_direction"))), RecordedAt::Destination);
    let dropped = |flow: &mut Value| {
        flow["verdict"] = "DROPPED".into();
        flow["traffic_direction"] = "INGRESS".into();
    };
    assert_eq!(of_hubble(&dropped), RecordedAt::Dropped);
    let of_udp = |flow: &mut Value| {
        dropped(flow);
        flow["l4"] = json!({"UDP": {"destination_port": 53}});
        flow.as_object_mut().unwrap().remove("is_reply");
    };
    assert_eq!(of_hubble(&of_udp), RecordedAt::Dropped, "no agent knows of a dropped packet whether it is a reply");
    let of_calico = |action: &str, reporter: &str| {
        let mut flow = calico();
        flow["action"] = action.into();
        flow["reporter"] = reporter.into();
        RecordedLine::read_json(&flow.to_string()).map(|line| match line {
            RecordedLine::Flow(flow) => Some(flow.at),
            RecordedLine::Passed(_) | RecordedLine::Lost(_) => None,
        })
    };
    assert_eq!(of_calico("allow", "src"), Ok(Some(RecordedAt::Source)));
    assert_eq!(of_calico("allow", "dst"), Ok(Some(RecordedAt::Destination)));
    assert_eq!(of_calico("deny", "dst"), Ok(Some(RecordedAt::Dropped)));
    assert_eq!(of_calico("deny", "src"), Ok(None));
    assert_eq!(of_calico("allow", "both"), Err("reporter is \"both\"; it is src or dst".into()));
}

#[test]
fn hubble_records_the_labels_of_a_namespace() {
    let mut flow = hubble();
    flow["source"]["labels"] = json!(["k8s:app=web", "k8s:io.cilium.k8s.namespace.labels.tier=prod"]);
    let RecordedLine::Flow(read) = read(&flow) else { panic!() };
    let RecordedEnd::Pod(pod) = read.from else { panic!() };
    assert_eq!(pod.namespace_labels, [("tier".to_owned(), "prod".to_owned())].into());
    assert_eq!(pod.labels, Some([("app".to_owned(), "web".to_owned())].into()));
}

/// A flow log of Calico.
fn calico() -> Value {
    json!({
        "start_time": 1_764_496_800, "end_time": 1_764_497_100, "action": "allow", "reporter": "src", "proto": "tcp",
        "source_type": "wep", "source_namespace": "shop", "source_name": "-", "source_name_aggr": "web-7d4b*", "source_ip": null,
        "source_port": null, "source_labels": {"labels": ["app=web"]},
        "dest_type": "net", "dest_namespace": "-", "dest_name": "-", "dest_name_aggr": "pub", "dest_ip": "203.0.113.7",
        "dest_port": 443, "dest_labels": null, "num_flows": 7, "bytes_in": 1,
    })
}

#[test]
fn a_flow_log_of_calico_is_read_also_if_it_stands_for_several_flows() {
    let seconds = |second| Timestamp::from_second(second).unwrap();
    let flow = RecordedFlow {
        from: pod("shop/web-7d4b*", &[("app", "web")], ""),
        to: RecordedEnd::Address("203.0.113.7".parse().unwrap()),
        protocol: Protocol::TCP,
        port: 443,
        count: 7,
        seen: Some((seconds(1_764_496_800), seconds(1_764_497_100))),
        at: RecordedAt::Source,
        is_written: false,
    };
    assert_eq!(read(&calico()), RecordedLine::Flow(Box::new(flow)));
    let with = |field: &str, value: Value| {
        let mut flow = calico();
        flow[field] = value;
        RecordedLine::read_json(&flow.to_string())
    };
    assert_eq!(with("action", json!("deny")), Ok(RecordedLine::Passed(PassedOver::Dropped)));
    assert_eq!(with("proto", json!(1)), Ok(RecordedLine::Passed(PassedOver::NoPort)));
    assert_eq!(with("dest_ip", json!(null)), Ok(RecordedLine::Passed(PassedOver::NoAddress)), "several addresses as one");
    let RecordedLine::Flow(read) =
        with("source_labels", json!({"labels": ["app=web", "projectcalico.org/namespace=shop"]})).unwrap()
    else {
        panic!()
    };
    assert_eq!(read.from, pod("shop/web-7d4b*", &[("app", "web")], ""), "without what Calico adds");
    let RecordedLine::Flow(udp) = with("proto", json!(17)).unwrap() else { panic!() };
    assert_eq!(udp.protocol, Protocol::UDP);
    assert_eq!(with("action", json!("maybe")), Err("action is \"maybe\"; it is allow or deny".into()));
}

#[test]
fn the_format_of_the_command_is_json_or_csv() {
    let flow = RecordedLine::Flow(Box::new(RecordedFlow {
        from: RecordedEnd::Pod(RecordedPod { namespace: "shop".into(), name: "web-1".into(), ..RecordedPod::default() }),
        to: RecordedEnd::Address("10.0.0.1".parse().unwrap()),
        protocol: Protocol::UDP,
        port: 53,
        count: 3,
        seen: None,
        at: RecordedAt::Destination,
        is_written: true,
    }));
    assert_eq!(read(&json!({"from": "shop/web-1", "to": "10.0.0.1", "port": "UDP/53", "count": 3})), flow);
    let columns = Columns::read("Count, from,to ,port").unwrap();
    assert_eq!(columns.flow("3,shop/web-1,10.0.0.1,53/udp"), Ok(flow));
    let timed = Columns::read("from,to,port,count,time").unwrap();
    let RecordedLine::Flow(read) = timed.flow("a/p,b/q,80,,2026-11-30T10:00:00Z").unwrap() else { panic!() };
    assert_eq!((read.count, read.seen.is_some()), (1, true));
}

#[test]
fn a_line_that_cannot_be_read_says_why() {
    for (line, expected) in [
        ("{", "it ends too early, after column 1"),
        (
            "{\"flow\": {\"verdict\": \"FORWARDED\", \"l4\": {\"TCP\": {\"destination_port\": 70000}}}}",
            "invalid value: integer `70000`, expected u16",
        ),
        ("{\"a\": 1}", "it has none of the fields flow (Hubble), reporter (Calico) and from (the format of this command)"),
        ("[]", "invalid length 0, expected struct Shape"),
        ("{\"from\": \"web\", \"to\": \"a/b\", \"port\": 80}", "from is \"web\": write NAMESPACE/POD"),
        ("{\"from\": \"a/b\", \"to\": \"a/svc/b\", \"port\": 80}", "to is \"a/svc/b\": write the pod that answers"),
        ("{\"from\": \"a/b\", \"to\": \"a/c\", \"port\": \"http\"}", "port is \"http\": write a number"),
        ("{\"from\": \"a/b\", \"to\": \"a/c\", \"port\": 0}", "port is \"0\": write a port"),
        ("{\"from\": \"a/b\", \"to\": \"a/c\", \"ports\": 80}", "unknown field `ports`"),
    ] {
        let error = RecordedLine::read_json(line).unwrap_err();
        assert!(error.starts_with(expected), "{line}: {error}");
    }
    for (head, expected) in [
        ("source,destination", "it is neither JSON nor a head of CSV"),
        ("from,to,port,protocol", "the column \"protocol\" is not known: write the protocol in port, as in UDP/53"),
        (
            "from;to;port",
            "it is neither JSON nor a head of CSV. The head of CSV is from,to,port or from,to,port,count,time. Separate the columns by commas",
        ),
        ("[{\"from\"", "it is a JSON array. Write one object in each line: jq -c '.[]'"),
        ("\u{1f}\u{fffd}\u{8}", "it is compressed. Unpack it: gzip -dc FILE | policy-baseline would-break --flows -"),
    ] {
        let error = Columns::read(head).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let columns = Columns::read("\"from\",\"to\",\"port\"").unwrap();
    assert!(columns.flow("\"a/b\",\"c/d\",\"80\"").is_ok() && columns.flow("a/b,c/d,80,").is_ok());
    assert_eq!(columns.flow("a/b,c/d,80,1"), Err("it has 4 columns, and the head has 3".into()));
    assert_eq!(Columns::read("from,to,port").unwrap().flow("a/b,c/d"), Err("it has only 2 columns".into()));
}

proptest! {
    #[test]
    fn no_line_breaks_the_reader(text in "\\PC{0,60}", at in any::<prop::sample::Index>(), calico_line in any::<bool>()) {
        let line = if calico_line { calico() } else { json!({"flow": hubble()}) }.to_string();
        // A line that is cut off, and one with something in the middle.
        let at = at.index(line.len());
        for line in [text.clone(), line[..at].to_owned(), format!("{}{text}{}", &line[..at], &line[at..])] {
            let _ = RecordedLine::read_json(&line);
            let _ = Columns::read(&line).map(|columns| columns.flow(&text));
        }
        let _ = Columns::read("from,to,port,count,time").unwrap().flow(&text);
    }
}
