//! The pages that a newcomer follows from the first command to the last: each block of commands is run as that person runs it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use policy_baseline_e2e::{Operator, World, repo};
use serde_json::json;
use tempfile::TempDir;

use crate::docs::page;
use crate::repair::PLATFORM;
use crate::samples::shell_blocks;
use crate::scene::{apply_baseline, until_ready};

/// A person with a kubeconfig, in the folder of the repository. What the person writes is in a folder of its own.
pub struct Reader {
    folder: TempDir,
    kubeconfig: String,
}

impl Reader {
    pub fn new(kubeconfig: &Path, kubectl: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(kubectl, bin.join("kubectl")).unwrap();
        symlink(Operator::binary().unwrap(), bin.join("policy-baseline")).unwrap();
        symlink(repo().join("docs"), folder.path().join("docs")).unwrap();
        Self { folder, kubeconfig: kubeconfig.to_str().unwrap().to_owned() }
    }

    /// Runs a block of a page in bash, which ends at the first command that fails. Returns what it printed.
    pub fn run(&self, block: &str, exit_code: i32) -> String {
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", block]).current_dir(self.folder.path());
        bash.env("PATH", path).env("KUBECONFIG", &self.kubeconfig).env("NO_PROXY", "127.0.0.1,localhost");
        let output = bash.output().unwrap();
        let [printed, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(output.status.code(), Some(exit_code), "{block}\n{printed}\n{said}");
        assert!(!said.contains("Warning:"), "{block}\n{said}");
        printed
    }
}

/// What the commands of a page promise: how a block begins, its exit code, and words that it prints.
type Promise = (&'static str, i32, &'static [&'static str]);

/// Runs the blocks of a page, in their order. Every promise is about a block of the page.
pub fn follow(reader: &Reader, blocks: &[String], promises: &[Promise]) {
    let mut promises = promises.iter().peekable();
    for block in blocks {
        let promise = promises.next_if(|(begins, ..)| block.starts_with(begins));
        let (_, exit_code, words) = *promise.unwrap_or(&("", 0, &[]));
        let printed = reader.run(block, exit_code);
        for word in words {
            assert!(printed.contains(word), "{block}\nshould print {word:?}:\n{printed}");
        }
    }
    assert_eq!(promises.next(), None, "the page has no such block, or not in this place");
}

#[tokio::test]
async fn every_command_for_an_existing_cluster_works_from_the_first_namespace_until_all_are_closed() {
    let mut world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    world.plane().run_kubectl(&["apply", "--server-side", "-k", "manifests/base"]).unwrap();
    world.wait_for_crds().await.unwrap();
    world.start_operator().await.unwrap();
    // As the demo leaves it.
    apply_baseline(&world, PLATFORM, &json!({ "existingNamespaces": "Enforce", "excludeNamespaces": ["sandbox-*"] })).await;
    until_ready(&world, PLATFORM).await;
    let kubectl = world.plane().kubectl();
    let reader = Reader::new(world.plane().admin_kubeconfig(), Path::new(kubectl.get_program()));
    let promises: [Promise; 11] = [
        ("policy-baseline check", 1, &["NoPluginKnown"]),
        ("cat > tenants.yaml", 0, &["tenants   Audit   2          0           2          0         True    Audited"]),
        ("kubectl get policybaseline tenants -o jsonpath", 0, &["sandbox-shop\tthe namespace is older than the baseline"]),
        ("policy-baseline explain namespace sandbox-shop", 1, &["tenants"]),
        ("sed 's/mode: Audit", 1, &["1205 would not be allowed"]),
        ("cat >> tenants.yaml", 0, &["configured"]),
        ("kubectl create namespace sandbox-new", 0, &["condition met"]),
        ("sed -i.bak 's/existingNamespaces", 0, &["condition met"]),
        ("kubectl wait --for=jsonpath", 0, &["\"moved\":1", "\"total\":2"]),
        ("kubectl wait --for=condition=ExistingNamespacesClosed", 0, &["condition met", "sandbox-billing: tenants applies"]),
        ("kubectl annotate policybaseline tenants", 0, &["annotated"]),
    ];
    follow(&reader, &shell_blocks(&page("existing-cluster.md")), &promises);
}
