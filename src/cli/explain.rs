//! `policy-baseline explain`: shows what is planned in a namespace, and why. `flow.rs` has `explain flow`, and `symptom.rs` has
//! `explain symptom`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{ResourceExt, api::ListParams};

use super::{
    cluster::{self, Cluster},
    examples, exit,
    flow::{self, FlowArgs},
    other_tools::ToolArgs,
    output::{self, Output},
    symptom::{self, SymptomArgs},
};
use crate::{
    cluster::{
        error::{ApiProblem, chain},
        lists,
    },
    operator,
    policy::explain::Explanation,
};

#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    #[command(subcommand)]
    what: ExplainTarget,
}

#[derive(Debug, Subcommand)]
enum ExplainTarget {
    /// Shows which baseline applies to a namespace and why, what it plans there, and what is wrong.
    ///
    /// It reads the cluster as the operator does, and writes nothing. The ClusterRole view, bound by a ClusterRoleBinding, is enough. Within the cluster:
    /// kubectl exec -n policy-baseline-system deploy/policy-baseline -- /policy-baseline explain namespace NAME
    ///
    /// Exit codes: 0 if the namespace is protected (every planned policy is in place); 1 if it is not; 2 if the cluster cannot be read, there
    /// is no such namespace, or a flag is wrong.
    #[command(visible_alias = "ns", after_help = examples::EXPLAIN_NAMESPACE)]
    Namespace(NamespaceArgs),
    /// Says whether NetworkPolicies allow a flow, which rule allows it or which policies deny it, and what would allow it.
    ///
    /// It judges every NetworkPolicy of the cluster, whoever wrote it. It sends no packet and writes nothing. The ClusterRole view, bound by a
    /// ClusterRoleBinding, is enough. With --dump it needs no cluster.
    ///
    /// Exit codes: 0 if the flow is allowed; 1 if it is denied or undecided, or if a pod of a workload has no port of the name of --port; 2 if the objects
    /// cannot be read, there is no such pod, Service or port, or a flag is wrong. For pods on the host network, Kubernetes does not define what policies mean:
    /// their flows are undecided.
    #[command(after_help = examples::EXPLAIN_FLOW)]
    Flow(FlowArgs),
    /// Begins with what you see, and checks its causes: DNS hangs, traffic is blocked, passes, or comes and goes.
    Symptom(SymptomArgs),
}

#[derive(Debug, ClapArgs)]
struct NamespaceArgs {
    /// The namespace.
    #[arg(value_name = "NAME", value_parser = cluster::namespace)]
    name: String,

    #[command(flatten)]
    cluster: Cluster,

    #[command(flatten)]
    tools: ToolArgs,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,

    /// How many seconds the API server may take to list everything.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    timeout: u16,
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: ExplainArgs) -> Result<u8, String> {
    let args = match args.what {
        ExplainTarget::Namespace(args) => args,
        ExplainTarget::Flow(args) => return flow::run(&args),
        ExplainTarget::Symptom(args) => return symptom::run(&args),
    };
    let format = args.output;
    let explanation = cluster::block_on(explain(args))?;
    output::print(&format.of(&explanation)?)?;
    Ok(if explanation.protected { 0 } else { exit::FINDINGS })
}

async fn explain(args: NamespaceArgs) -> Result<Explanation, String> {
    let (clients, address) = args.cluster.reach().await?;
    if let Some(missing) = cluster::missing_crds(&clients.requests).await {
        return Err(missing.into());
    }
    let (namespace, resolv_conf, tools) = (args.cluster.operator_namespace(), cluster::resolv_conf(), args.tools.tools());
    let from = operator::ViewPoint { namespace, resolv_conf, tools };
    let explained = operator::explain(&clients, from, &args.name, Duration::from_secs(args.timeout.into())).await;
    let mut explanation = explained.map_err(|e| chain(&e))?;
    // The engine does not keep the creation times of policies.
    let listed = lists::list_metadata::<NetworkPolicy>(&clients.requests, Some(&args.name), &ListParams::default()).await;
    for policy in
        listed.map_err(|e| format!("cannot list the policies of {}: {}", args.name, ApiProblem::of(&e).sentence(&address)))?
    {
        let (name, created) = (policy.name_any(), policy.creation_timestamp().map(|at| at.0));
        for row in explanation.policies.iter_mut().filter(|row| row.name.as_ref() == Some(&name)) {
            row.created = created;
        }
    }
    Ok(explanation)
}
