//! `lint` as a person or a job runs it. The examples of its help and of the pages are run here, and so are the manifests of this repository.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run_in(dir: &Path, args: &[&str], input: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_policy-baseline"));
    command.args(args).current_dir(dir).env("KUBECONFIG", "/no/kubeconfig").stdin(input);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, standard output and standard error.
fn lint(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = run_in(dir, &[&["lint"], args].concat(), Stdio::null());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A folder like those of the examples: `manifests/` with a policy without mistakes, and `baseline.yaml`.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    fs::write(dir.path().join("manifests/web.yaml"), policy).unwrap();
    fs::copy(root().join("docs/examples/baseline.yaml"), dir.path().join("baseline.yaml")).unwrap();
    dir
}

/// Runs what a line says after `policy-baseline`, up to where the output goes. What a pipe would send is the policy of the workspace.
fn run_example(dir: &Path, line: &str) {
    let (_, command) = line.split_once("policy-baseline lint").unwrap();
    let command = format!("lint {}", command.split('>').next().unwrap());
    let args: Vec<&str> = command.split_whitespace().collect();
    let input = File::open(dir.join("manifests/web.yaml")).unwrap();
    let output = run_in(dir, &args, input.into());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{line}: {}", text(&output.stdout));
    assert!(!output.stdout.is_empty() || command.contains("github"), "{line}");
}

#[test]
fn the_manifests_of_this_repository_have_no_mistakes() {
    let (code, shown, errors) =
        lint(&root(), &["manifests", "docs/examples/baseline.yaml", "docs/examples/ingress-only.yaml", "--fail-on", "info"]);
    // The suite of the chart compares what these templates become with the other manifests.
    let left_out = "note: manifests/helm/templates is left out: it has templates. Give what helm template writes\n";
    assert_eq!((code, &*errors), (Some(0), left_out), "{shown}");
    assert!(shown.starts_with("no mistakes in ") && !shown.contains("in 0 objects"), "{shown}");
}

#[test]
fn the_examples_of_the_help_run() {
    let dir = workspace();
    let (_, help, _) = lint(dir.path(), &["--help"]);
    let examples: Vec<&str> =
        help.lines().filter(|line| line.starts_with("  ") && line.contains("policy-baseline lint ")).collect();
    assert!(examples.len() >= 3, "{help}");
    for example in examples {
        run_example(dir.path(), example);
    }
}

#[test]
fn the_jobs_of_the_page_on_ci_are_yaml_and_their_commands_run() {
    let dir = workspace();
    let page = fs::read_to_string(root().join("docs/ci.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut run_commands = 0;
    for block in blocks {
        let job: Value = serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"));
        assert!(job.is_object(), "{block}");
        for line in block.lines().filter(|line| line.contains("policy-baseline lint ")) {
            run_example(dir.path(), line);
            run_commands += 1;
        }
    }
    assert_eq!(run_commands, 4, "one for each job");
}

#[test]
fn the_exit_code_says_whether_something_was_found_or_could_not_be_read() {
    let dir = workspace();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("info.yaml", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec: {podSelector: {}}\n");
    write(
        "warning.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}, ingress: [{}]}\n",
    );
    let code = |args: &[&str]| lint(dir.path(), args).0;
    for (args, expected) in [
        (&["manifests"][..], 0),
        (&["info.yaml"], 0),
        (&["info.yaml", "--fail-on=info"], 1),
        (&["warning.yaml"], 1),
        (&["warning.yaml", "--fail-on=error"], 0),
        (&["warning.yaml", "--ignore", "PB007,allows-everything"], 0),
        (&["warning.yaml", "--select", "PB101"], 0),
        (&["warning.yaml", "--select", "PB201"], 1),
        (&["warning.yaml", "none.yaml"], 2),
        (&["warning.yaml", "--baseline", "none.yaml"], 2),
        (&["warning.yaml", "--select", "PB999"], 2),
        (&[], 2),
    ] {
        assert_eq!(code(args), Some(expected), "{args:?}");
    }
    let (_, shown, errors) = lint(dir.path(), &["warning.yaml", "none.yaml"]);
    assert!(shown.starts_with("warning.yaml:4:35: warning PB201 allows-everything\n"), "what can be read is linted: {shown}");
    assert_eq!(errors, "error: cannot read none.yaml: No such file or directory (os error 2)\n");
}

#[test]
fn a_folder_without_policies_says_so_and_is_no_mistake() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("values.yaml"), "image: web\n").unwrap();
    let (code, shown, errors) = lint(dir.path(), &["."]);
    assert_eq!((code, &*shown), (Some(0), "no mistakes in 0 objects of 1 file\n"));
    assert_eq!(errors, "note: there is no NetworkPolicy, PolicyBaseline or BaselineOptOut in .\n");
}

#[test]
fn what_keeps_an_object_from_being_judged_is_found_whatever_rules_are_selected() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let head = "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {name: p}\n";
    write("baseline.yaml", &format!("{head}spec: {{mode: Enforced, policies: [DefaultDenyIngress]}}\n"));
    let policy = |kind: &str, spec: &str| {
        format!("apiVersion: networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: web, namespace: shop}}\nspec: {spec}\n")
    };
    write("kind.yaml", &policy("NetworkPolicies", "{podSelector: {}}"));
    write("broken.yaml", "kind: [\n");
    // It is refused, too, but the other rules are looked for in it.
    write("judged.yaml", &policy("NetworkPolicy", "{podSelector: {}, policyTypes: [Ingres]}"));
    for (file, select, code, id) in [
        ("baseline.yaml", "--select=PB303", 1, "PB002"),
        ("kind.yaml", "--select=PB303", 1, "PB002"),
        ("broken.yaml", "--select=PB303", 1, "PB001"),
        ("judged.yaml", "--select=PB303", 0, "no mistakes in 1 object"),
        ("baseline.yaml", "--ignore=PB002", 0, "no mistakes in 1 object"),
        ("broken.yaml", "--ignore=PB001", 0, "no mistakes in 0 objects"),
    ] {
        let (found, shown, _) = lint(dir.path(), &[file, select]);
        assert_eq!((found, shown.contains(id)), (Some(code), true), "{file} {select}: {shown}");
    }
}

#[test]
fn where_nothing_can_be_read_nothing_is_said_of_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let (code, shown, errors) = lint(dir.path(), &["nothere", "-o", format]);
        assert_eq!((code, &*shown), (Some(2), ""), "{format}");
        assert_eq!(errors, "error: cannot read nothere: No such file or directory (os error 2)\n");
    }
}
