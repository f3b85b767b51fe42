//! `explain flow`, `would-break`, `diff` and `render` without a cluster, as a person runs them. The pages of the docs show exactly what they print.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Runs the command in the folder of the docs, without a cluster.
fn run(args: &[&str]) -> Output {
    run_with(args, Stdio::null())
}

fn run_with(args: &[&str], input: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_policy-baseline"));
    command.args(args).current_dir(docs()).env("KUBECONFIG", "/no/kubeconfig").stdin(input);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const ASKED: [&str; 8] = ["explain", "flow", "--from", "shop/web-7d4b-1", "--to", "shop/svc/db", "--port", "sql"];

#[test]
fn each_command_of_the_pages_prints_what_the_page_shows() {
    for (page, least) in [("diff.md", 3), ("explain-flow.md", 3), ("lint.md", 1), ("symptoms.md", 5), ("would-break.md", 2)] {
        let text_of_page = fs::read_to_string(docs().join(page)).unwrap();
        let mut run_commands = 0;
        for block in text_of_page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            for command in block.split("$ policy-baseline ").skip(1) {
                let (command, shown) = command.split_once('\n').unwrap();
                let output = run(&command.split_whitespace().collect::<Vec<_>>());
                assert_eq!(text(&output.stdout), shown, "{command}: {}", text(&output.stderr));
                let first = shown.lines().next().unwrap();
                let is_same = first.starts_with("no flow is decided differently");
                let finds_nothing = first.ends_with(": allowed") || first.ends_with(": no cause found");
                let is_clean = finds_nothing || is_same || command.starts_with("render");
                let expected = i32::from(!is_clean);
                assert_eq!((output.status.code(), text(&output.stderr)), (Some(expected), String::new()), "{command}");
                run_commands += 1;
            }
        }
        assert!(run_commands >= least, "{page}: {run_commands}");
    }
}

#[test]
fn a_recording_is_read_from_standard_input_and_what_is_no_recording_says_so() {
    let flags = ["would-break", "-f", "examples/baseline.yaml", "--dump", "examples/open-shop.json", "--flows"];
    let from_file = run(&[&flags[..], &["examples/flows.csv"]].concat());
    let from_stdin = run_with(&[&flags[..], &["-"]].concat(), File::open(docs().join("examples/flows.csv")).unwrap().into());
    assert_eq!((text(&from_stdin.stdout), from_stdin.status.code()), (text(&from_file.stdout), Some(1)));
    for (file, expected) in [
        ("no/such", "error: cannot read no/such: No such file or directory (os error 2)\n"),
        (
            "would-break.md",
            "error: would-break.md, line 3: it is neither JSON nor a head of CSV. The head of CSV is from,to,port or from,to,port,count,time\n",
        ),
    ] {
        let output = run(&[&flags[..], &[file]].concat());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), expected.into()), "{file}");
    }
    // A line of any length takes no more memory than the longest that is read.
    let long = tempfile::NamedTempFile::new().unwrap();
    fs::write(long.path(), format!("{{\"a\": \"{}\"}}\n{{\"from\": \"shop/db-0\"\n", "x".repeat(2_000_000))).unwrap();
    let output = run(&[&flags[..], &[long.path().to_str().unwrap()]].concat());
    let nothing = "error: none of 2 lines is a flow that could be judged\n".to_owned();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), nothing), "that nothing was judged is no success");
    let shown = text(&output.stdout);
    assert!(
        shown.contains(", line 1: it is longer than 1048576 bytes\n") && shown.contains(", line 2: it ends too early"),
        "{shown}"
    );
}

#[test]
fn policies_are_rendered_for_named_namespaces_for_those_of_a_file_and_for_those_of_a_dump() {
    let names = |args: &[&str]| -> Vec<String> {
        let output = run(&[&["render", "-f", "examples/baseline.yaml", "-o", "json"], args].concat());
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        let name = |policy: &Value| {
            format!("{} {}", policy["kind"].as_str().unwrap(), policy["metadata"]["namespace"].as_str().unwrap())
        };
        list["items"].as_array().unwrap().iter().map(name).collect()
    };
    let three = |namespace: &str, kind: &str| vec![format!("{kind} {namespace}"); 3];
    assert_eq!(names(&["-n", "shop"]), three("shop", "NetworkPolicy"));
    let staged = names(&["-n", "shop", "--as", "calico-staged"]);
    assert_eq!(staged, three("shop", "StagedKubernetesNetworkPolicy"));
    let of_dump = [three("reports", "NetworkPolicy"), three("shop", "NetworkPolicy")].concat();
    assert_eq!(names(&["--dump", "examples/open-shop.json"]), of_dump);
    let mut of_file = names(&["--namespaces", "examples/open-shop.json"]);
    of_file.sort();
    assert_eq!(of_file, of_dump);
    let both = run(&["render", "-f", "examples/baseline.yaml", "-n", "a", "--dump", "-"]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
}

#[test]
fn what_counts_for_nothing_in_manifests_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let policy = |spec: &str| {
        format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: db, namespace: shop}}\nspec: {spec}\n")
    };
    let closed = policy("{podSelector: {matchLabels: {app: db}}}");
    fs::write(dir.path().join("old.yaml"), format!("{}---\n{closed}", policy("{podSelector: {}}"))).unwrap();
    fs::write(dir.path().join("new.yaml"), policy("{podSelecter: {matchLabels: {app: db}}}")).unwrap();
    let output = run(&["diff", "-f", &path("old.yaml"), "-f", &path("new.yaml"), "--dump", "examples/open-shop.json"]);
    let expected = [
        format!(
            "warning: the NetworkPolicy shop/db is given twice, first at {0}:3 and last at {0}:8. Only the last one counts. Remove the others\n",
            path("old.yaml")
        ),
        format!(
            "warning: {}:4: the NetworkPolicy shop/db has an unknown field \"spec.podSelecter\"; did you mean \"podSelector\"? It counts for nothing\n",
            path("new.yaml")
        ),
    ];
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected.concat()));
    // The same for a baseline, and for namespaces.
    let head = "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\n";
    fs::write(dir.path().join("baseline.yaml"), format!("{head}metadata: {{name: p, lables: {{}}}}\nspec: {{mode: Enforce}}\n"))
        .unwrap();
    fs::write(dir.path().join("namespaces.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, label: {tier: x}}\n")
        .unwrap();
    let output = run(&["render", "-f", &path("baseline.yaml"), "--namespaces", &path("namespaces.yaml")]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(0), 2), "{said}");
    assert!(said.contains("baseline.yaml:3: the PolicyBaseline p has an unknown field \"metadata.lables\""), "{said}");
    assert!(said.contains("namespaces.yaml:3: the Namespace a has an unknown field \"metadata.label\""), "{said}");
}

#[test]
fn what_the_api_server_refuses_in_policies_of_manifests_and_of_dumps_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let policy = |kind: &str, types: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: db, namespace: shop}}\nspec: {{podSelector: {{}}, policyTypes: [{types}]}}\n"
        )
    };
    fs::write(dir.path().join("old.yaml"), policy("NetworkPolicies", "Ingress")).unwrap();
    fs::write(dir.path().join("new.yaml"), policy("NetworkPolicy", "Ingres")).unwrap();
    let output = run(&["diff", "-f", &path("old.yaml"), "-f", &path("new.yaml"), "--dump", "examples/open-shop.json"]);
    let said = text(&output.stderr);
    let refused = "the API server refuses the NetworkPolicy shop/db: spec.policyTypes[0]: Unsupported value: \"Ingres\"";
    assert!(said.contains("/old.yaml:2: no API server has the kind \"NetworkPolicies\" of "), "{said}");
    assert!(said.contains(&format!("/new.yaml:4: {refused}")), "{said}");

    let mut dump: Value = serde_json::from_reader(File::open(docs().join("examples/open-shop.json")).unwrap()).unwrap();
    let one: Value = serde_yaml::from_str(&policy("NetworkPolicy", "Ingres")).unwrap();
    dump["items"].as_array_mut().unwrap().push(one);
    fs::write(dir.path().join("dump.json"), dump.to_string()).unwrap();
    let dump = path("dump.json");
    for command in [
        &["would-break", "--flows", "examples/flows.csv"][..],
        &["would-break", "-f", "examples/baseline.yaml", "--flows", "examples/flows.csv"],
        &["render", "-f", "examples/baseline.yaml"],
        &["explain", "flow", "--from=shop/db-0", "--to=10.0.0.1", "--port=80"],
    ] {
        let said = text(&run(&[command, &["--dump", &dump]].concat()).stderr);
        assert_eq!(said.matches(&format!("warning: {refused}")).count(), 1, "{command:?}: {said}");
    }
}

#[test]
fn json_and_yaml_hold_the_same_answer() {
    let of = |format: &str| run(&[&ASKED[..], &["--dump=examples/shop.json", "--output", format]].concat());
    let json: Value = serde_json::from_slice(&of("json").stdout).unwrap();
    let yaml: Value = serde_yaml::from_slice(&of("yaml").stdout).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json["decision"], "allowed");
}

#[test]
fn what_cannot_be_answered_is_one_sentence_on_stderr_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.json");
    fs::write(&broken, "{\"kind\": \"List\", \"items\": [").unwrap();
    let broken = broken.to_str().unwrap();
    let command = "Write one with: kubectl get ns,pods,svc,endpointslices,netpol -A -o json";
    for (dump, to, expected) in [
        (broken, "shop/db-0", format!("error: {broken} is no usable dump: it ends too early, at line 1, column 27. {command}\n")),
        ("-", "shop/db-0", format!("error: standard input is no usable dump: it is empty. {command}\n")),
        ("no/such.json", "shop/db-0", "error: cannot read no/such.json: No such file or directory (os error 2)\n".into()),
        ("examples/shop.json", "shop/db-1", "error: there is no pod shop/db-1. In \"shop\" there are: db-0, web-7d4b-1\n".into()),
    ] {
        let output = run(&["explain", "flow", "--from=shop/web-7d4b-1", "--to", to, "--port=80", "--dump", dump]);
        assert_eq!((output.status.code(), text(&output.stderr), text(&output.stdout)), (Some(2), expected, String::new()));
    }
}

#[test]
fn a_wrong_flag_says_what_to_write_with_exit_code_2() {
    for (from, port, expected) in [
        ("web", "80", "--from web: write NAMESPACE/POD, NAMESPACE/deploy/NAME or an IP address"),
        ("shop/web", "http/80/x", "write a port"),
    ] {
        let output = run(&["explain", "flow", "--from", from, "--to=shop/db", "--port", port, "--dump=-"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
    let missing = run(&["explain", "flow", "--from=shop/web", "--to=shop/db"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("--port <[TCP/]PORT>"), "{}", text(&missing.stderr));
}

#[test]
fn what_a_dump_lacks_or_what_cannot_be_read_is_a_warning_and_the_answer_is_still_given() {
    let mut dump: Value = serde_json::from_reader(File::open(docs().join("examples/shop.json")).unwrap()).unwrap();
    let items = dump["items"].as_array_mut().unwrap();
    items.retain(|item| item["kind"] != "Namespace");
    let web = items.iter_mut().find(|item| item["metadata"]["name"] == "web-to-db").unwrap();
    web["spec"]["egress"] = "nothing".into();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), dump.to_string()).unwrap();
    let output = run(&[&ASKED[..], &["--dump", file.path().to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("shop/web-7d4b-1 to shop/svc/db, TCP sql: undecided\n"));
    let expected = "warning: the NetworkPolicy shop/web-to-db is left out, because it cannot be read: spec.egress: invalid type: string \"nothing\", expected a sequence\nwarning: these namespaces are not among the objects, so of their labels only the name is known: kube-system, reports, shop\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn two_versions_that_decide_alike_end_with_0_and_a_missing_folder_of_policies_is_no_version() {
    let workloads = ["--workloads", "examples/diff/workloads.yaml"];
    let diff = |args: &[&str]| run(&[&["diff"], args, &workloads].concat());
    let same = diff(&["-f", "examples/diff/old", "-f", "examples/diff/old/shop.yaml"]);
    assert_eq!((same.status.code(), text(&same.stderr)), (Some(0), String::new()));
    assert!(text(&same.stdout).starts_with("no flow is decided differently. Policies: none differs."), "{}", text(&same.stdout));
    let json = diff(&["-f", "examples/diff/old", "-f", "examples/diff/new", "-o", "json", "--limit", "1"]);
    let found: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(found["newlyAllowed"]["rows"][0]["ports"], "TCP 5432", "{found}");
    assert_eq!((&found["newlyDenied"]["pairs"], &found["newlyDenied"]["moreRows"]), (&3.into(), &2.into()), "{found}");

    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let removed = diff(&["-f", "examples/diff/old", "-f", empty]);
    assert_eq!(removed.status.code(), Some(1));
    assert_eq!(text(&removed.stderr), format!("note: {empty} has neither a NetworkPolicy nor a baseline\n"));
    for (args, expected) in [
        (&["-f", "examples/diff/old"][..], "write -f twice: first what was, and then what will be"),
        (&["-f", "no/such", "-f", empty], "cannot read no/such: No such file or directory (os error 2)"),
        (&["-f", "-", "-f", "-"], "only one of -f, --workloads and --dump can be standard input"),
        (&["-f", "diff.md", "-f", empty], "diff.md: it is no YAML: "),
        (
            &["-f", "examples/baseline.yaml", "-f", "examples/ingress-only.yaml", "--workloads", empty, "-n", "Shop"],
            "invalid value 'Shop'",
        ),
    ] {
        let output = diff(args);
        let error = text(&output.stderr);
        assert!(error.starts_with(&format!("error: {expected}")), "{args:?}: {error}");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{args:?}");
    }
    let nothing = run(&["diff", "-f", "examples/diff/old", "-f", "examples/diff/new", "--workloads", empty]);
    assert_eq!(text(&nothing.stderr), format!("error: there is no workload in {empty}: without pods there are no flows\n"));
}

#[test]
fn a_selector_selects_pods_or_namespaces_and_one_that_selects_nothing_is_no_answer() {
    let flow = |args: &[&str]| {
        run(&[&["explain", "flow", "--to=shop/svc/db", "--port=sql", "--dump=examples/shop.json"], args].concat())
    };
    let of_web = flow(&["-n", "shop", "-l", "app in (web, api), !canary"]);
    let first = "the pods of shop with app in (web, api), !canary (1 pod) to shop/svc/db, TCP sql: allowed\n";
    assert!(text(&of_web.stdout).starts_with(first), "{}", text(&of_web.stdout));
    assert_eq!((of_web.status.code(), text(&of_web.stderr)), (Some(0), String::new()));
    let of_workload = flow(&["--from=shop/deploy/web"]);
    assert_eq!(of_workload.status.code(), Some(0), "{}", text(&of_workload.stderr));
    assert!(text(&of_workload.stdout).starts_with("shop/deploy/web (1 pod) to shop/svc/db, TCP sql: allowed\n"));

    let diff = |labels: &str| {
        let versions =
            ["diff", "-f", "examples/diff/old", "-f", "examples/diff/new", "--workloads", "examples/diff/workloads.yaml"];
        run(&[&versions[..], &["-l", labels]].concat())
    };
    let of_db = diff("app=db");
    assert!(text(&of_db.stdout).contains(" of workloads with app=db are newly "), "{}", text(&of_db.stdout));
    let recorded =
        ["would-break", "-f", "examples/baseline.yaml", "--dump", "examples/open-shop.json", "--flows", "examples/flows.csv"];
    let of_nightly = run(&[&recorded[..], &["-l", "app=nightly"]].concat());
    assert!(text(&of_nightly.stdout).starts_with("of 1 recorded flow"), "{}", text(&of_nightly.stdout));
    let render =
        |labels: &str| run(&["render", "-f", "examples/baseline.yaml", "--dump", "examples/open-shop.json", "-l", labels]);
    let of_shop = render("kubernetes.io/metadata.name=shop");
    assert!(text(&of_shop.stdout).contains("namespace: shop\n") && !text(&of_shop.stdout).contains("namespace: reports\n"));

    let no_pod = "error: no pod has the labels app=x. List those that exist: kubectl get pods -A --show-labels\n";
    for (output, code, expected) in [
        (flow(&["-n", "shop", "-l", "app=x"]), 2, "error: app=x selects nothing in \"shop\": none of 2 pods has such labels."),
        (
            flow(&["--from=shop/deploy/api"]),
            2,
            "error: there is no Deployment shop/api, or it has no pods. In \"shop\" there are: web\n",
        ),
        (flow(&["--from=shop/cm/web"]), 2, "error: --from shop/cm/web: \"cm\" has no pods: write one of pod, deploy, "),
        (diff("app=x"), 2, no_pod),
        (run(&[&recorded[..], &["-l", "app=x"]].concat()), 2, no_pod),
        (render("team=x"), 2, "error: no namespace has the labels team=x. List those that exist: kubectl get ns --show-labels\n"),
    ] {
        assert!(text(&output.stderr).starts_with(expected), "{expected}: {}", text(&output.stderr));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), String::new()), "{expected}");
    }
}

#[test]
fn a_wrong_selector_says_what_to_write() {
    let commands: [&[&str]; 5] = [
        &["explain", "flow", "-n=shop", "--to=shop/db", "--port=80"],
        &["would-break", "--flows=-"],
        &["diff", "-f=a", "-f=b"],
        &["list-managed"],
        &["render", "-f=-"],
    ];
    for command in commands {
        let output = run(&[command, &["-l", "app in web"]].concat());
        let error = text(&output.stderr);
        let expected = "error: invalid value 'app in web' for '--selector <SELECTOR>': behind app in write values in brackets, such as app in (web,api)\n";
        assert!(output.status.code() == Some(2) && error.starts_with(expected), "{command:?}: {error}");
    }
    let without = run(&["explain", "flow", "-l", "app=web", "--to=shop/db", "--port=80", "--dump=-"]);
    assert!(text(&without.stderr).contains("--namespace <NAME>"), "it is about one namespace: {}", text(&without.stderr));
}
