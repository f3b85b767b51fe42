//! Where the objects that decide flows come from: a cluster, or a dump. Several subcommands share it.

use std::{io::Read, path::Path, time::Duration};

use clap::Args as ClapArgs;
use kube::Client;

use super::{
    cluster::{self, Connection},
    output,
};
use crate::{
    api::label_query::LabelQuery,
    cluster::{
        error::ApiProblem,
        flow_objects::{self, FlowListError},
        plugins,
    },
    policy::{
        explain::WHO_GRANTS,
        flow::{DUMP_COMMAND, FlowDump, FlowEnd, FlowObject, FlowSnapshot},
        lint::{passed_over, refused_in},
        preview::{ManifestText, PreviewedBaseline},
        symptoms::SymptomSurroundings,
    },
};

#[derive(Debug, ClapArgs)]
pub struct FlowInput {
    /// Read no cluster, but this file (- is standard input). It is what this command writes:
    /// kubectl get ns,pods,svc,endpointslices,netpol -A -o json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["context", "kubeconfig"])]
    dump: Option<String>,

    /// How many seconds the API server may take to list everything.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    timeout: u16,

    #[command(flatten)]
    connection: Connection,
}

impl FlowInput {
    /// The file with the dump.
    pub fn dump(&self) -> Option<&str> {
        self.dump.as_deref()
    }

    /// Reads the dump, or lists everything that decides flows.
    pub fn read(&self) -> Result<FlowDump, String> {
        self.read_with(async |client| flow_objects::list(client).await)
    }

    /// The same, with the workloads that these ends name, so that one without pods is told apart from one that does not exist.
    pub fn read_with_workloads(&self, ends: &[&FlowEnd]) -> Result<FlowDump, String> {
        let list = async |client: &Client| {
            let mut all = flow_objects::list(client).await?;
            for end in ends {
                if let FlowEnd::Workload { kind, namespace, .. } = end {
                    flow_objects::list_workloads(client, *kind, namespace, &mut all).await?;
                }
            }
            Ok(all)
        };
        self.read_with(list)
    }

    /// The same, with what a baseline needs to know of the cluster's DNS.
    pub fn read_for_a_baseline(&self) -> Result<FlowDump, String> {
        let list = async |client: &Client| {
            let mut all = flow_objects::list(client).await?;
            flow_objects::list_dns(client, &mut all).await.map(|()| all)
        };
        self.read_with(list)
    }

    /// The same, with what shows the network plugin and policies of other kinds.
    pub fn read_with_surroundings(&self) -> Result<(FlowDump, SymptomSurroundings), String> {
        let list = async |client: &Client| {
            let mut all = flow_objects::list(client).await?;
            all.others_are_complete = flow_objects::list_other_policies(client, &mut all).await;
            // Without permission, the plugin is not known.
            all.plugins = plugins::find(client).await.ok();
            Ok(all)
        };
        let mut dump = self.read_with(list)?;
        let plugin = dump.plugins.take().map(|found| found.judge());
        let other_policies = std::mem::take(&mut dump.other_policies);
        let around = SymptomSurroundings { plugin, other_policies, others_are_complete: dump.others_are_complete };
        Ok((dump, around))
    }

    fn read_with(&self, list: impl AsyncFnOnce(&Client) -> Result<FlowDump, FlowListError>) -> Result<FlowDump, String> {
        match &self.dump {
            Some(file) => read(file),
            None => cluster::block_on(self.list(list)),
        }
    }

    async fn list(&self, list: impl AsyncFnOnce(&Client) -> Result<FlowDump, FlowListError>) -> Result<FlowDump, String> {
        let (clients, address) = self.connection.reach().await?;
        let patience = Duration::from_secs(self.timeout.into());
        let listed = tokio::time::timeout(patience, list(&clients.requests)).await;
        let listed =
            listed.map_err(|_| format!("not everything could be listed within {patience:?}. --timeout sets more seconds"))?;
        listed.map_err(|FlowListError { resource, problem }| match problem {
            // The operator's own permissions are of no help here: it may not list all pods.
            ApiProblem::Forbidden(message) => format!("you may not list {resource}: {message}. {WHO_GRANTS}"),
            problem => format!("cannot list {resource}: {}", problem.sentence(&address)),
        })
    }
}

/// Reads a dump from a file, or from standard input.
fn read(file: &str) -> Result<FlowDump, String> {
    let error = |error| format!("{} is no usable dump: {error}. Write one with: {DUMP_COMMAND}", shown(file));
    let mut dump = FlowDump::read(&text(file)?).map_err(error)?;
    let policies = dump.objects.iter().filter_map(|object| match object {
        FlowObject::Policy(policy) => Some(policy),
        _ => None,
    });
    let refused: Vec<String> = policies.flat_map(refused_in).collect();
    dump.warnings.extend(refused);
    Ok(dump)
}

/// Reads a manifest with a baseline.
pub fn baseline(file: &str, operator_namespace: &str) -> Result<PreviewedBaseline, String> {
    let text = manifest(file, |_, kind| kind == "PolicyBaseline")?;
    PreviewedBaseline::read(&text, operator_namespace).map_err(|error| format!("{}: {error}", shown(file)))
}

/// The text of a file with manifests. A warning names each thing in it that counts for nothing.
pub fn manifest(file: &str, reads: impl Fn(&str, &str) -> bool) -> Result<String, String> {
    let text = ManifestText { name: shown(file).into(), text: text(file)? };
    for warning in passed_over(std::slice::from_ref(&text), "", reads) {
        output::warn(&warning);
    }
    Ok(text.text)
}

/// The text of a file, or of standard input, without the mark that some editors write at its beginning.
pub fn text(file: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut bytes),
        file => std::fs::File::open(Path::new(file)).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("cannot read {}: {error}", shown(file)))?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(format!("cannot read {}: it is UTF-16. Save it as UTF-8", shown(file)));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("cannot read {}: it is no UTF-8", shown(file)))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A selector that selects no pod is a mistake: without it nothing would differ, and nothing would be denied.
pub fn some_selected(selector: Option<&LabelQuery>, snapshot: &FlowSnapshot) -> Result<(), String> {
    match selector {
        Some(selector) if !snapshot.pods.iter().any(|pod| selector.selects(&pod.labels)) => {
            Err(format!("no pod has the labels {selector}. List those that exist: kubectl get pods -A --show-labels"))
        }
        _ => Ok(()),
    }
}

/// Only one of the inputs can be standard input; `names` says which these are.
pub fn one_stdin<'a>(inputs: impl Iterator<Item = &'a str>, names: &str) -> Result<(), String> {
    match inputs.filter(|input| *input == "-").count() {
        0 | 1 => Ok(()),
        _ => Err(format!("only one of {names} can be standard input")),
    }
}

/// The name of a file in a message.
pub fn shown(file: &str) -> &str {
    if file == "-" { "standard input" } else { file }
}
