//! What stays after `policy-baseline uninstall`, and the commands that remove it.

use std::fmt;

use super::{Inventory, ManagedPolicy, Scope, Standing, count};
use crate::api::names::{BASELINES_CRD, LABEL_APP, LABEL_BASELINE, LABEL_MANAGED_BY, MANAGER, OPT_OUTS_CRD};

/// What stays after the removals, as text.
#[derive(Debug)]
pub struct Rest<'a> {
    inventory: &'a Inventory,
    scope: Scope,
    operator_namespace: &'a str,
}

impl Inventory {
    /// What stays after the removals of this scope.
    pub const fn rest<'a>(&'a self, scope: Scope, operator_namespace: &'a str) -> Rest<'a> {
        Rest { inventory: self, scope, operator_namespace }
    }
}

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inventory, scope, operator_namespace } = self;
        writeln!(f, "What stays:")?;
        match scope {
            Scope::All => {}
            Scope::AllButPolicies => {
                let kept: Vec<_> = inventory.policies.iter().filter(|p| p.standing != Standing::NotOurs).collect();
                if !kept.is_empty() {
                    writeln!(
                        f,
                        "
- {}: these namespaces stay closed, and nobody repairs the policies. To remove them later:
    policy-baseline uninstall --orphans --yes
  Or without this program. This also deletes copies that somebody made with the same labels:
    kubectl delete networkpolicies --all-namespaces -l {LABEL_MANAGED_BY}={MANAGER},{LABEL_BASELINE}",
                        count(kept.into_iter())
                    )?;
                }
            }
            Scope::Orphans => {
                let left_over: Vec<_> = inventory.with(Standing::LeftOver).collect();
                if !left_over.is_empty() {
                    writeln!(
                        f,
                        "
- {} left over: a baseline with that name exists. `policy-baseline list-managed --orphans` says what happens to them",
                        count(left_over.into_iter())
                    )?;
                }
            }
        }
        let not_ours: Vec<&ManagedPolicy> = inventory.with(Standing::NotOurs).collect();
        if !not_ours.is_empty() {
            writeln!(
                f,
                "\n- {} with the operator's labels, but not the operator's. Ask the owner before you delete one:",
                count(not_ours.iter().copied())
            )?;
            for policy in not_ours {
                let namespace = policy.object.namespace.as_deref().unwrap_or_default();
                writeln!(f, "    kubectl delete networkpolicy -n {namespace} {}", policy.object.name)?;
            }
        }
        if *scope == Scope::Orphans {
            return writeln!(f, "\n- everything else: the baselines and their policies, and the operator");
        }
        writeln!(
            f,
            "
- the operator: its CRDs, its namespace with the Deployment, and its RBAC. Delete them by the manifests that you installed, such as:
    kubectl delete -k manifests/default
  Or without the manifests:
    kubectl delete crd {BASELINES_CRD} {OPT_OUTS_CRD}
    kubectl delete clusterroles,clusterrolebindings -l {LABEL_APP}={MANAGER}
    kubectl delete roles,rolebindings -n kube-system -l {LABEL_APP}={MANAGER}
    kubectl delete roles,rolebindings -n default -l {LABEL_APP}={MANAGER}
    kubectl delete namespace {operator_namespace}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::inventory::tests::one_of_each, testkit::golden};

    #[test]
    fn what_stays_is_named_with_the_command_that_removes_it() {
        for (scope, name) in [(Scope::All, "removed"), (Scope::AllButPolicies, "kept"), (Scope::Orphans, "of_orphans")] {
            let text = one_of_each().rest(scope, "policy-baseline-system").to_string();
            golden(&format!("src/policy/inventory/golden/rest_{name}.txt"), &text);
        }
    }

    #[test]
    fn of_an_empty_cluster_only_the_operator_stays() {
        let text = Inventory::default().rest(Scope::AllButPolicies, "ops").to_string();
        assert!(!text.contains("networkpolic") && text.contains("kubectl delete namespace ops\n"), "{text}");
    }
}
