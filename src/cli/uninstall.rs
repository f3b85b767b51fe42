//! `policy-baseline uninstall`: removes everything that is ours, in the right order, and says what stays.

use std::{collections::BTreeSet, io::Write};

use clap::{Args as ClapArgs, ValueEnum};
use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use kube::Client;

use super::{
    cluster::{self, Cluster},
    exit, output,
};
use crate::{
    api::lease,
    cluster::{
        inventory::{self, ReadError},
        removal::{self, Removed},
    },
    engine::inventory::ClusterContents,
    policy::inventory::{ManagedObject, Removal, Scope},
};

#[derive(Debug, ClapArgs)]
pub struct UninstallArgs {
    #[command(flatten)]
    cluster: Cluster,

    /// Do it. Without this flag, nothing is changed: the command only says what it would do.
    #[arg(long)]
    yes: bool,

    /// What happens to the policies.
    #[arg(long, value_name = "WHAT", default_value = "keep", conflicts_with = "orphans")]
    policies: PolicyHandling,

    /// Remove only policies whose baseline does not exist, and nothing else. The operator may run meanwhile.
    #[arg(long)]
    orphans: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PolicyHandling {
    /// They stay, and the namespaces stay closed. `uninstall --orphans --yes` removes them later.
    Keep,
    /// They are removed: the namespaces are open afterwards.
    Remove,
}

impl UninstallArgs {
    const fn scope(&self) -> Scope {
        match (self.orphans, self.policies) {
            (true, _) => Scope::Orphans,
            (false, PolicyHandling::Keep) => Scope::AllButPolicies,
            (false, PolicyHandling::Remove) => Scope::All,
        }
    }
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &UninstallArgs) -> Result<u8, String> {
    cluster::block_on(async {
        let (clients, address) = args.cluster.reach().await?;
        let in_words = |error: ReadError| cluster::unread(&error, &address);
        let uninstall = Uninstall { client: clients.requests, namespace: args.cluster.operator_namespace(), scope: args.scope() };
        let contents = uninstall.read().await.map_err(in_words)?;
        if let Some(resource) = contents.unread.first() {
            return Err(format!("not allowed to list {resource}: use credentials of a cluster administrator"));
        }
        if args.yes {
            if let Some(runs) = uninstall.operator_that_runs(&contents).await.map_err(in_words)? {
                return Err(format!("nothing was removed: {runs}"));
            }
            let done = uninstall.carry_out(&contents).await?;
            let now = uninstall.read().await.map_err(in_words)?;
            uninstall.conclude(&done, &now)
        } else {
            let before = uninstall.what_comes_first(&contents).await.map_err(in_words)?;
            uninstall.show(&contents, &before)
        }
    })
}

/// The removals that were tried.
#[derive(Default)]
struct TriedRemovals {
    done: usize,
    failed: BTreeSet<ManagedObject>,
}

/// One run of the command.
struct Uninstall {
    client: Client,
    /// The namespace of the operator.
    namespace: String,
    scope: Scope,
}

impl Uninstall {
    async fn read(&self) -> Result<ClusterContents, ReadError> {
        inventory::read(&self.client, &self.namespace).await
    }

    fn removals(&self, contents: &ClusterContents) -> Vec<Removal> {
        contents.inventory(Timestamp::now()).removals(self.scope)
    }

    /// A sentence about an operator that runs or is wanted. Only orphans may be removed meanwhile: no operator writes them again.
    async fn operator_that_runs(&self, contents: &ClusterContents) -> Result<Option<String>, ReadError> {
        if self.scope == Scope::Orphans {
            return Ok(None);
        }
        if let Some(wanted) = inventory::wanted(&self.client).await? {
            return Ok(Some(wanted));
        }
        let held = inventory::held_leases(contents);
        if let Some(longest) = held.iter().map(|lease| lease::record(lease).duration).max() {
            let holders: Vec<String> = held.iter().map(|lease| lease::record(lease).holder).collect();
            say(&format!(
                "{} holds the Lease of the operator. Waiting up to {} s to see whether it is renewed",
                holders.join(", "),
                longest.as_secs()
            ));
        }
        inventory::renewed(&self.client, held).await
    }

    /// What has to be done before `--yes`, as lines.
    async fn what_comes_first(&self, contents: &ClusterContents) -> Result<Vec<String>, ReadError> {
        let mut lines = Vec::new();
        if self.scope != Scope::Orphans {
            lines.extend(inventory::wanted(&self.client).await?);
            for lease in inventory::held_leases(contents) {
                let holder = lease::record(&lease).holder;
                let namespace = lease.metadata.namespace.unwrap_or_default();
                lines.push(format!(
                    "{holder} holds the Lease {namespace}/{}. If it renews the Lease, --yes removes nothing",
                    lease::NAME
                ));
            }
            if !contents.baselines.is_empty() || !contents.opt_outs.is_empty() {
                lines.push(
                    "if a GitOps tool applies the baselines or opt-outs, remove them there first: it would create them again"
                        .into(),
                );
            }
        }
        Ok(lines)
    }

    /// Says what `--yes` would do, and what would stay.
    fn show(&self, contents: &ClusterContents, first: &[String]) -> Result<u8, String> {
        let inventory = contents.inventory(Timestamp::now());
        let removals = inventory.removals(self.scope);
        let mut lines = vec!["This is a dry run: nothing is changed.".to_owned()];
        lines.extend(first.iter().map(|line| format!("\nFirst: {line}")));
        lines.push(match removals.len() {
            0 => "\nThere is nothing to remove.".to_owned(),
            steps => format!("\nWith --yes, this command does the following, in this order ({steps} steps):"),
        });
        lines.extend(removals.iter().map(|removal| format!("  {removal}")));
        lines.push(format!("\n{}", inventory.rest(self.scope, &self.namespace)));
        output::print(&lines.join("\n"))?;
        Ok(0)
    }

    async fn carry_out(&self, contents: &ClusterContents) -> Result<TriedRemovals, String> {
        let removed = removal::carry_out(&self.client, &self.removals(contents));
        pin_mut!(removed);
        let mut outcome = TriedRemovals::default();
        while let Some(Removed { removal, result }) = removed.next().await {
            match result {
                Ok(()) => {
                    outcome.done += 1;
                    // The removals go on if the output cannot be written.
                    let _ = output::print(&format!("{}\n", removal.done()));
                }
                Err(why) => {
                    say(&format!("error: cannot {removal}: {why}"));
                    outcome.failed.insert(removal.object);
                }
            }
        }
        Ok(outcome)
    }

    /// Says what was done and what stays, from what is there now. Returns the exit code.
    fn conclude(&self, outcome: &TriedRemovals, now: &ClusterContents) -> Result<u8, String> {
        let inventory = now.inventory(Timestamp::now());
        let is_same = |a: &ManagedObject, b: &ManagedObject| (a.kind, &a.namespace, &a.name) == (b.kind, &b.namespace, &b.name);
        let mut left: Vec<ManagedObject> = inventory.removals(self.scope).into_iter().map(|removal| removal.object).collect();
        left.dedup_by(|a, b| is_same(a, b));
        for object in left.iter().filter(|object| !outcome.failed.iter().any(|failed| is_same(failed, object))) {
            say(&format!("error: {object} is still there, or there again"));
        }
        let summary = match (outcome.done, left.is_empty() && outcome.failed.is_empty()) {
            (0, true) => "There was nothing to remove.".to_owned(),
            (done, true) => format!("Done: {done} steps."),
            (done, false) => format!("Not done: {done} steps succeeded, and the errors above remain. Run the command again."),
        };
        output::print(&format!("\n{summary}\n\n{}", inventory.rest(self.scope, &self.namespace)))?;
        Ok(if left.is_empty() && outcome.failed.is_empty() { 0 } else { exit::FINDINGS })
    }
}

/// Writes a line to stderr. The removals go on if that fails.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
