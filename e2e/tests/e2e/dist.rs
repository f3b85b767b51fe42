//! The release that `make dist` packed into `target/dist`. krew, its validator, kubectl and Helm are the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use policy_baseline_e2e::{built, repo};
use serde_json::{Value, json};

use crate::docs::page;
use crate::helm;
use crate::prometheus::said;
use crate::samples::commands_of;
use crate::support::run;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMS: &str = "SHA256SUMS";

fn dist() -> PathBuf {
    repo().join("target/dist")
}

fn platform() -> String {
    let arch = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let os = if env::consts::OS == "macos" { "darwin" } else { env::consts::OS };
    format!("{os}-{arch}")
}

/// A file of the release whose name ends in the platform.
fn of_platform(name: &str, extension: &str) -> PathBuf {
    dist().join(format!("{name}-{VERSION}-{}.{extension}", platform()))
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}: run make dist", path.as_ref().display()))
}

fn json_of(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&text(path)).unwrap()
}

fn git(args: &[&str]) -> String {
    run(Command::new("git").args(args).current_dir(repo())).trim().to_owned()
}

/// The page, for this platform.
fn release_page() -> String {
    page("release.md").replace("linux-amd64", &platform())
}

/// The files of the release.
fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(dist()).unwrap_or_else(|why| panic!("{why}: run make dist"));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The digests in SHA256SUMS, by file.
fn sums() -> BTreeMap<String, String> {
    let lines = text(dist().join(SUMS));
    lines.lines().map(|line| line.split_once("  ").unwrap()).map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect()
}

#[test]
fn the_page_lists_every_file_and_the_sums_have_all_others() {
    let page = release_page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>(), names());
    let all: BTreeSet<String> = sums().into_keys().chain([SUMS.to_owned()]).collect();
    assert_eq!(all, names());
}

/// In a copy of the release, as if it was downloaded.
#[test]
fn the_commands_of_the_page_verify_the_release_and_find_a_changed_file() {
    let page = release_page();
    let commands = commands_of(&page, "Verify a release");
    assert!(commands.len() >= 3 && commands[0].contains(SUMS), "{commands:?}");
    let copy = tempfile::tempdir().unwrap();
    for name in names() {
        fs::copy(dist().join(&name), copy.path().join(&name)).unwrap();
    }
    let shell = |script: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).current_dir(copy.path());
        shell
    };
    let printed = run(&mut shell(&commands.join("\n")));
    assert!(
        printed.contains(&format!("policy-baseline {VERSION}\n")) && printed.contains(&git(&["rev-parse", "HEAD"])),
        "{printed}"
    );

    let file = copy.path().join("install.yaml");
    fs::write(&file, text(&file) + "\n").unwrap();
    let output = shell(&commands[0]).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("install.yaml: FAILED"), "{}", said(&output));
}

#[test]
fn the_archives_hold_the_same_program_and_the_licence_as_of_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let list = |file: &Path| {
        run(Command::new("tar").args(["--list", "--verbose", "--full-time", "--numeric-owner", "-zf"]).arg(file).env("TZ", "UTC"))
    };
    let time = run(Command::new("git")
        .args(["show", "--no-patch", "--format=%cd", "--date=format-local:%Y-%m-%d %H:%M:%S", "HEAD"])
        .env("TZ", "UTC")
        .current_dir(repo()));
    let folder = format!("policy-baseline-{VERSION}-{}", platform());
    let expected = [
        ("policy-baseline", vec![format!("{folder}/"), format!("{folder}/LICENSE"), format!("{folder}/policy-baseline")]),
        ("kubectl-baseline", vec!["LICENSE".to_owned(), "kubectl-baseline".to_owned()]),
    ];
    for (name, files) in expected {
        let archive = of_platform(name, "tar.gz");
        let listed = list(&archive);
        let fields: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(fields.iter().map(|entry| entry[5]).collect::<Vec<_>>(), files);
        for entry in &fields {
            let mode = if entry[5].ends_with('/') {
                "drwxr-xr-x"
            } else if entry[5].ends_with("LICENSE") {
                "-rw-r--r--"
            } else {
                "-rwxr-xr-x"
            };
            assert_eq!(
                (entry[0], entry[1], format!("{} {}", entry[3], entry[4])),
                (mode, "0/0", time.trim().to_owned()),
                "{entry:?}"
            );
        }
        run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()));
    }
    let read = |file: String| fs::read(dir.path().join(file)).unwrap();
    let released = fs::read(repo().join("target/release/policy-baseline")).unwrap();
    assert!(read(format!("{folder}/policy-baseline")) == released && read("kubectl-baseline".into()) == released);
    assert!(
        read(format!("{folder}/LICENSE")) == read("LICENSE".into())
            && text(repo().join("LICENSE")).as_bytes() == read("LICENSE".into())
    );
    assert_eq!(text(dist().join("install.yaml")), text(repo().join("manifests/install.yaml")));
}

/// The names and versions in the tree of crates that cargo builds for the operator.
fn crates() -> BTreeSet<String> {
    let host = run(Command::new("rustc").arg("-vV").current_dir(repo()));
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let tree =
        ["tree", "--locked", "--package", "policy-baseline", "--edges", "normal,build", "--prefix", "none", "--target", host];
    let tree = run(Command::new("cargo").args(tree).current_dir(repo()));
    tree.lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn the_sbom_has_each_crate_of_the_operator_with_its_digest_and_no_other() {
    let sbom = json_of(of_platform("policy-baseline", "cdx.json"));
    assert_eq!(
        (&sbom["bomFormat"], &sbom["specVersion"], &sbom["serialNumber"]),
        (&json!("CycloneDX"), &json!("1.5"), &Value::Null)
    );
    let of = |component: &Value| format!("{} v{}", component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
    let components = sbom["components"].as_array().unwrap();
    for component in components {
        assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{}", of(component));
        assert!(component["licenses"][0].is_object(), "{}", of(component));
    }
    let root = &sbom["metadata"]["component"];
    let listed: BTreeSet<String> = components.iter().chain([root]).map(of).collect();
    assert_eq!(of(root), format!("policy-baseline v{VERSION}"));
    assert_eq!(listed, crates());
}

#[test]
fn the_provenance_names_the_commit_the_compiler_and_the_digest_of_every_file() {
    let name = of_platform("policy-baseline", "intoto.json");
    let statement = json_of(&name);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap().iter();
    let subjects: BTreeMap<String, String> = subjects
        .map(|subject| [&subject["name"], &subject["digest"]["sha256"]].map(|value| value.as_str().unwrap().to_owned()))
        .map(|[name, digest]| (name, digest))
        .collect();
    let mut sums = sums();
    sums.remove(name.file_name().unwrap().to_str().unwrap()).unwrap();
    assert_eq!(subjects, sums);
    let build = &statement["predicate"]["buildDefinition"];
    let needed: BTreeMap<&str, &Value> =
        build["resolvedDependencies"].as_array().unwrap().iter().map(|of| (of["name"].as_str().unwrap(), of)).collect();
    assert_eq!(needed["policy-baseline"]["digest"]["gitCommit"], git(&["rev-parse", "HEAD"]));
    let rustc = run(Command::new("rustc").arg("--version").current_dir(repo()));
    assert_eq!(needed["rustc"]["annotations"]["version"], rustc.trim());
    for tool in build["internalParameters"].as_object().unwrap() {
        assert!(tool.1.as_str().is_none_or(|version| !version.is_empty()), "{tool:?}");
    }
}

#[test]
fn helm_renders_the_packed_chart_like_the_one_of_the_repository() {
    let home = tempfile::tempdir().unwrap();
    let helm = |args: &[&str]| {
        let mut helm = Command::new(helm::binary());
        for dir in ["CACHE", "CONFIG", "DATA"] {
            helm.env(format!("HELM_{dir}_HOME"), home.path().join(dir));
        }
        run(helm.args(args).current_dir(repo()))
    };
    let packed = dist().join(format!("policy-baseline-{VERSION}.tgz"));
    let packed = packed.to_str().unwrap();
    for values in [&[][..], &["--values", "manifests/helm/values-production.yaml"]] {
        let render = |chart: &str| {
            helm(&[&["template", "policy-baseline", chart, "--namespace", "policy-baseline-system"], values].concat())
        };
        assert_eq!(render(packed), render("manifests/helm"));
    }
    let shown: Value = serde_yaml::from_str(&helm(&["show", "chart", packed])).unwrap();
    assert_eq!((&shown["version"], &shown["appVersion"]), (&json!(VERSION), &json!(VERSION)));
}

/// Serves the files of the release until the test binary ends, as the place where they will be published. Returns its address.
fn publish() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let request = lines.next().unwrap();
            lines.find(String::is_empty).unwrap();
            let path = request.split(' ').nth(1).unwrap();
            let content = fs::read(dist().join(path.trim_start_matches('/'))).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len()).unwrap();
            stream.write_all(&content).unwrap();
        }
    });
    format!("http://{address}")
}

/// Without `-skip-install`, the validator has krew download the archive, compare its digest, and install it. Only the address is another one.
#[test]
fn krew_validates_the_manifest_and_installs_the_plugin_that_kubectl_runs() {
    let dir = tempfile::tempdir().unwrap();
    let kubectl = built("controlplane", "kubectl").unwrap();
    let krew = built("krew", "kubectl-krew").unwrap();
    let folders = [kubectl.parent().unwrap().to_owned(), krew.parent().unwrap().to_owned(), dir.path().join("krew/bin")];
    let system = env::var_os("PATH").unwrap();
    let path = env::join_paths(folders.into_iter().chain(env::split_paths(&system))).unwrap();
    let validate = |manifest: &Path, flags: &[&str]| {
        let mut validator = Command::new(built("krew", "validate-krew-manifest").unwrap());
        validator.arg("-manifest").arg(manifest).args(flags).env("PATH", &path).output().unwrap()
    };

    let shipped = dist().join("baseline.yaml");
    let output = validate(&shipped, &["-skip-install"]);
    assert!(output.status.success(), "{}", said(&output));

    let manifest: Value = serde_yaml::from_str(&text(&shipped)).unwrap();
    assert_eq!(manifest["spec"]["version"], format!("v{VERSION}"));
    let address = manifest["spec"]["platforms"][0]["uri"].as_str().unwrap();
    let (place, file) = address.rsplit_once('/').unwrap();
    assert_eq!(dist().join(file), of_platform("kubectl-baseline", "tar.gz"));
    let here = text(&shipped).replace(place, &publish());
    let with = |folder: &str, text: &str| {
        let file = dir.path().join(folder).join("baseline.yaml");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    };
    let good = with("good", &here);
    let output = validate(&good, &[]);
    assert!(output.status.success() && said(&output).contains("all 1 spec.platforms installed fine"), "{}", said(&output));

    let digest = manifest["spec"]["platforms"][0]["sha256"].as_str().unwrap();
    let output = validate(&with("other-digest", &here.replace(digest, &"0".repeat(64))), &[]);
    assert!(!output.status.success() && said(&output).contains("checksum does not match"), "{}", said(&output));
    let output = validate(&with("no-licence", &here.replace("        - {from: LICENSE, to: .}\n", "")), &[]);
    assert!(!output.status.success() && said(&output).contains("could not find license file"), "{}", said(&output));

    let page = release_page();
    let install = commands_of(&page, "Install the plugin").join("\n");
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &install]).current_dir(dist());
    let printed = run(shell.env("PATH", &path).env("KREW_ROOT", dir.path().join("krew")));
    assert!(printed.ends_with(&format!("policy-baseline {VERSION}\n")), "{printed}");
    let help = run(Command::new(&kubectl).args(["baseline", "--help"]).env("PATH", &path));
    assert!(help.contains("Usage: kubectl baseline <COMMAND>"), "{help}");
}
