//! What `--help`, shells and `man` show of the commands: every example is run, as a person would type it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

const BINARY: &str = env!("CARGO_BIN_EXE_policy-baseline");

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env("KUBECONFIG", "/no/kubeconfig").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn help(of: &[String]) -> String {
    let args: Vec<&str> = of.iter().map(|part| &**part).chain(["--help"]).collect();
    let output = run(BINARY, &args);
    assert_eq!(output.status.code(), Some(0), "{of:?}");
    text(&output.stdout)
}

/// The commands that have no subcommands, with their help.
fn commands() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut open: Vec<Vec<String>> = vec![vec![]];
    while let Some(command) = open.pop() {
        let help = help(&command);
        let Some((_, list)) = help.split_once("Commands:\n") else {
            found.push((command, help));
            continue;
        };
        let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
        let names = names.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
        open.extend(names.filter(|name| *name != "help").map(|name| [&command[..], &[name.to_owned()]].concat()));
    }
    found
}

/// The examples of a help text. A line that ends with a backslash goes on in the next one.
fn examples(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("Example").and_then(|(_, rest)| rest.split_once(":\n")) else { return vec![] };
    let joined = list.replace("\\\n", "");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A folder with the files that the examples name, and with the programs that they call.
fn stage() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    for (from, to) in [
        ("baseline.yaml", "baseline.yaml"),
        ("baseline-allows.yaml", "new-baseline.yaml"),
        ("flows.csv", "flows.csv"),
        ("shop.json", "dump.json"),
        ("shop.json", "namespaces.yaml"),
        ("diff/workloads.yaml", "workloads.yaml"),
        ("diff/old/shop.yaml", "old/shop.yaml"),
        ("diff/new/shop.yaml", "new/shop.yaml"),
        ("diff/new/shop.yaml", "manifests/shop.yaml"),
    ] {
        let to = dir.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let text = fs::read_to_string(docs.join(from)).unwrap().replace("web-7d4b-1", "web-0");
        // An example selects the namespaces of a team.
        let name = "\"kubernetes.io/metadata.name\": \"shop\"";
        fs::write(to, text.replace(name, &format!("{name}, \"team\": \"shop\""))).unwrap();
    }
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(BINARY, bin.join("policy-baseline")).unwrap();
    for (program, prints) in [("kubectl", "dump.json"), ("hubble", "flows.csv")] {
        fs::write(bin.join(program), format!("#!/bin/sh\nexec cat {prints}\n")).unwrap();
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
fn each_command_has_examples_that_run_or_only_lack_a_cluster() {
    let stage = stage();
    let path = format!("{}:{}", stage.path().join("bin").display(), std::env::var("PATH").unwrap());
    let (mut without_a_cluster, mut with_one) = (0, 0);
    for (command, help) in commands() {
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{command:?} has no example:\n{help}");
        for example in examples {
            assert!(example.contains(&format!("policy-baseline {}", command.join(" "))), "{command:?}: {example}");
            let mut shell = Command::new("bash");
            shell.args(["-o", "pipefail", "-c", &example]).current_dir(stage.path()).env("PATH", &path);
            let output = shell.env("KUBECONFIG", "/no/kubeconfig").output().unwrap();
            let said = text(&output.stderr);
            if said.contains("cannot read the kubeconfig /no/kubeconfig: no such file") {
                with_one += 1;
                continue;
            }
            assert!(matches!(output.status.code(), Some(0 | 1)) && !said.contains("error: "), "{example}: {said}");
            without_a_cluster += 1;
        }
    }
    assert!(without_a_cluster >= 10 && with_one >= 8, "{without_a_cluster} {with_one}");
}

#[test]
fn as_a_plugin_of_kubectl_the_usage_lines_name_kubectl() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-baseline");
    symlink(BINARY, &plugin).unwrap();
    let plugin = plugin.to_str().unwrap();
    for (args, usage) in
        [(&["--help"][..], "Usage: kubectl baseline <COMMAND>"), (&["diff", "--help"], "Usage: kubectl baseline diff ")]
    {
        let output = run(plugin, args);
        assert!(text(&output.stdout).contains(usage), "{}", text(&output.stdout));
    }
    let wrong = run(plugin, &["diff"]);
    assert!(
        wrong.status.code() == Some(2) && text(&wrong.stderr).contains("Usage: kubectl baseline diff "),
        "{}",
        text(&wrong.stderr)
    );
    assert_eq!(run(plugin, &["crd"]).stdout, run(BINARY, &["crd"]).stdout, "it is the same program");
    assert!(text(&run(BINARY, &["--help"]).stdout).contains("Usage: policy-baseline <COMMAND>"));
}

#[test]
fn shells_complete_every_command_and_its_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(BINARY, &["completion", shell]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        let script = text(&output.stdout);
        for word in ["explain", "would-break", "list-managed", "operator-namespace", "calico-staged"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let complete = r#"
        source <(policy-baseline completion bash)
        function=$(complete -p policy-baseline | sed 's/.* -F \([^ ]*\) .*/\1/')
        complete_last() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $function "$1" "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[@]}"; }
        complete_last policy-baseline dif
        complete_last policy-baseline diff --work
        complete_last policy-baseline would-break --fl
        complete_last policy-baseline explain flow --fr"#;
    let stage = stage();
    let path = format!("{}:{}", stage.path().join("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").args(["-c", complete]).env("PATH", path).output().unwrap();
    assert_eq!(text(&output.stdout), "diff\n--workloads\n--flows\n--from\n", "{}", text(&output.stderr));
}

#[test]
fn each_command_has_a_man_page_with_its_flags_and_examples() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(BINARY, &["man", dir.path().to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    for (command, help) in commands() {
        let page = dir.path().join(format!("policy-baseline-{}.1", command.join("-")));
        let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".SH SYNOPSIS") && page.contains("xample"), "{command:?}: {page}");
        for flag in help.lines().filter_map(|line| line.trim_start().split("--").nth(1)?.split([' ', '=', '<', '[']).next()) {
            assert!(page.replace('\\', "").contains(flag), "{command:?}: {flag}");
        }
    }
}

#[test]
fn only_run_takes_the_former_name_of_the_flag_for_its_namespace_and_help_does_not_show_it() {
    // The kubeconfig is missing, which is said only after the flags are read.
    let said = |args: &[&str]| text(&run(BINARY, args).stderr);
    for args in [&["run", "--namespace", "policies"][..], &["run", "--namespace=policies", "--leader-elect=false"]] {
        let said = said(args);
        assert!(said.contains("/no/kubeconfig") && !said.contains("unexpected argument"), "{args:?}: {said}");
    }
    assert!(said(&["run", "--namespace", "Not_A_Name"]).contains("Not_A_Name"), "it is checked like the flag itself");
    assert!(said(&["run", "--namespace=a", "--operator-namespace=b"]).contains("cannot be used multiple times"));
    for command in ["list-managed", "uninstall", "check"] {
        let said = said(&[command, "--namespace", "policies"]);
        let is_another_flag = text(&run(BINARY, &[command, "--help"]).stdout).contains("--namespace <");
        assert!(is_another_flag || said.contains("unexpected argument '--namespace'"), "{command}: {said}");
    }
    assert!(!help(&["run".to_owned()]).contains(" --namespace"));
}
