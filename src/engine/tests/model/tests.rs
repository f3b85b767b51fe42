//! The results of the model: it finds no broken rule, and it finds every defect that is built in.

use stateright::{Checker, HasDiscoveries, Model};

use super::{
    rules::properties,
    setup::{Broken, Budget, Restore, Setup},
};

const NOTHING: Budget = Budget {
    tenant: 0,
    forgeries: 0,
    edits: 0,
    releases: 0,
    namespace: 0,
    faults: 0,
    refusals: 0,
    restores: 0,
    only: None,
    terms: 0,
    lags: 1,
};
const ONE: Setup = Setup { sides: 1, roles: 1, allows: false, settled: false, in_order: false, budget: NOTHING, broken: None };
const SETTLED: Setup = Setup { settled: true, ..ONE };
/// One leads, the other one is ready to take over, and etcd will be restored.
const TWO_RESTORED: Setup = Setup { sides: 2, in_order: true, budget: Budget { restores: 1, lags: 0, ..NOTHING }, ..SETTLED };

/// One default-deny and an allow of its direction.
const WITH_ALLOW: Setup = Setup { allows: true, ..ONE };

/// Tries every order of events. There must be at least `states` states, so that the model cannot become empty unnoticed.
fn holds(setup: Setup, states: usize) {
    let start = std::time::Instant::now();
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let found = checker.unique_state_count();
    println!("{found} states, {} steps, depth {}: {setup:?} {:?}", checker.state_count(), checker.max_depth(), start.elapsed());
    checker.assert_properties();
    assert!(found >= states, "the model has shrunk");
}

/// The model must find the defect, and name the rule that it breaks.
fn finds(broken: Broken, rule: &str, setup: Setup) {
    let setup = Setup { broken: Some(broken), ..setup };
    let names = properties(&setup).iter().map(|property| property.name).filter(|name| name.starts_with(rule)).collect();
    let checker = setup.checker().threads(2).finish_when(HasDiscoveries::AnyOf(names)).spawn_bfs().join();
    let found: Vec<&str> = checker.discoveries().into_keys().filter(|name| name.starts_with(rule)).collect();
    assert!(!found.is_empty(), "{broken:?} breaks no rule {rule}: {:?}", checker.discoveries().keys());
}

#[test]
fn i1_to_i6_hold_whatever_tenants_do_while_the_baseline_is_edited() {
    holds(Setup { budget: Budget { tenant: 1, edits: 1, ..NOTHING }, ..ONE }, 9_000);
}

#[test]
fn i1_to_i6_hold_whatever_is_lost_while_the_baseline_is_edited() {
    holds(Setup { budget: Budget { edits: 1, faults: 1, ..NOTHING }, ..ONE }, 4_000);
}

#[test]
fn i1_to_i6_hold_while_the_namespace_goes_and_comes_back() {
    holds(Setup { budget: Budget { namespace: 2, edits: 1, ..NOTHING }, ..SETTLED }, 20_000);
}

#[test]
fn i1_to_i6_hold_while_two_leaders_take_turns() {
    holds(Setup { budget: Budget { edits: 1, terms: 1, lags: 0, ..NOTHING }, sides: 2, ..SETTLED }, 30_000);
}

#[test]
fn i1_to_i6_hold_for_two_policies_of_which_one_may_be_written_and_the_other_not() {
    holds(Setup { roles: 2, budget: Budget { edits: 1, tenant: 1, lags: 0, ..NOTHING }, ..SETTLED }, 15_000);
}

#[test]
fn i1_to_i6_hold_while_edits_are_taken_back() {
    holds(Setup { budget: Budget { edits: 2, tenant: 1, ..NOTHING }, ..SETTLED }, 40_000);
}

#[test]
fn i1_to_i6_hold_whatever_is_lost_twice() {
    holds(Setup { budget: Budget { faults: 2, edits: 1, lags: 0, ..NOTHING }, ..SETTLED }, 1_000);
}

#[test]
fn i1_to_i6_hold_whatever_tenants_do_while_two_leaders_take_turns() {
    holds(Setup { budget: Budget { tenant: 1, terms: 2, lags: 0, ..NOTHING }, sides: 2, ..SETTLED }, 15_000);
}

#[test]
fn i1_to_i6_hold_after_a_restore_of_etcd_while_the_baseline_is_edited() {
    holds(Setup { budget: Budget { restores: 1, edits: 1, lags: 0, ..NOTHING }, ..SETTLED }, 2_500);
}

#[test]
fn i1_to_i6_hold_after_a_restore_of_etcd_whatever_tenants_do() {
    holds(Setup { budget: Budget { restores: 1, edits: 1, tenant: 1, lags: 0, ..NOTHING }, ..SETTLED }, 80_000);
}

#[test]
fn i1_to_i6_hold_after_a_restore_of_etcd_with_a_namespace_that_comes_and_goes() {
    holds(Setup { budget: Budget { restores: 1, namespace: 2, lags: 0, ..NOTHING }, ..SETTLED }, 15_000);
}

#[test]
fn i1_to_i6_hold_after_a_restore_of_etcd_under_two_instances_whatever_tenants_do() {
    holds(Setup { budget: Budget { tenant: 1, ..TWO_RESTORED.budget }, ..TWO_RESTORED }, 12_000);
}

#[test]
fn i1_to_i6_hold_after_a_restore_of_etcd_under_two_instances_while_the_baseline_is_edited() {
    let budget = Budget { edits: 1, only: Some(Restore::Plain), ..TWO_RESTORED.budget };
    holds(Setup { budget, ..TWO_RESTORED }, 16_000);
}

#[test]
fn i1_to_i6_hold_after_a_bumped_restore_of_etcd_under_two_instances_while_the_baseline_is_edited() {
    let budget = Budget { edits: 1, only: Some(Restore::Bumped), ..TWO_RESTORED.budget };
    holds(Setup { budget, ..TWO_RESTORED }, 60_000);
}

#[test]
fn i1_to_i6_hold_while_lists_are_refused_and_the_baseline_is_edited() {
    holds(Setup { budget: Budget { refusals: 2, edits: 1, ..NOTHING }, ..SETTLED }, 4_000);
}

#[test]
fn i1_to_i6_hold_while_a_list_is_refused_under_two_leaders_whatever_tenants_do() {
    holds(Setup { budget: Budget { refusals: 1, tenant: 1, terms: 1, lags: 0, ..NOTHING }, sides: 2, ..SETTLED }, 25_000);
}

#[test]
fn i4_a_forged_policy_is_told_counted_and_removed_only_if_its_baseline_exists() {
    holds(Setup { budget: Budget { forgeries: 1, edits: 2, lags: 0, ..NOTHING }, ..SETTLED }, 5_000);
}

#[test]
fn i4_forged_policies_are_told_and_counted_while_the_namespace_goes_and_comes_back() {
    holds(Setup { budget: Budget { forgeries: 1, namespace: 2, lags: 0, ..NOTHING }, ..SETTLED }, 5_000);
}

#[test]
fn i4_forged_policies_are_told_and_counted_whatever_is_lost_or_refused() {
    holds(Setup { budget: Budget { forgeries: 2, faults: 1, refusals: 1, lags: 0, ..NOTHING }, ..SETTLED }, 10_000);
}

#[test]
fn i4_forged_policies_are_told_and_counted_by_each_of_two_leaders() {
    holds(Setup { budget: Budget { forgeries: 1, terms: 1, lags: 0, ..NOTHING }, sides: 2, ..SETTLED }, 1_500);
}

#[test]
fn a_change_that_opens_the_namespace_waits_for_the_confirmation_of_its_generation() {
    holds(Setup { budget: Budget { releases: 3, edits: 1, lags: 0, ..NOTHING }, ..SETTLED }, 10_000);
}

#[test]
fn a_change_that_opens_the_namespace_waits_whatever_is_lost_and_whoever_leads() {
    holds(Setup { budget: Budget { releases: 2, faults: 1, lags: 0, ..NOTHING }, ..SETTLED }, 400);
    holds(Setup { budget: Budget { releases: 2, terms: 1, lags: 0, ..NOTHING }, sides: 2, ..SETTLED }, 4_500);
}

#[test]
fn a_namespace_is_closed_only_after_its_allow_is_confirmed_whatever_is_lost_while_the_baseline_is_edited() {
    holds(Setup { budget: Budget { edits: 1, faults: 1, lags: 0, ..NOTHING }, ..WITH_ALLOW }, 25_000);
}

#[test]
fn a_namespace_is_closed_only_after_its_allow_is_confirmed_whatever_is_lost_while_it_goes_and_comes_back() {
    holds(Setup { settled: true, budget: Budget { namespace: 2, faults: 1, lags: 0, ..NOTHING }, ..WITH_ALLOW }, 20_000);
}

#[test]
fn an_allow_goes_only_after_the_default_deny_whatever_is_lost() {
    holds(Setup { settled: true, budget: Budget { releases: 2, faults: 1, lags: 0, ..NOTHING }, ..WITH_ALLOW }, 600);
}

#[test]
fn i5_holds_in_a_namespace_that_is_being_deleted_whatever_tenants_do_there() {
    holds(Setup { budget: Budget { namespace: 1, tenant: 2, lags: 0, ..NOTHING }, ..SETTLED }, 1_000);
}

#[test]
fn the_model_finds_each_rule_that_is_broken() {
    let with = |budget| Setup { budget, ..ONE };
    let edits = with(Budget { edits: 1, ..NOTHING });
    let tenant = with(Budget { tenant: 1, ..NOTHING });
    let both = with(Budget { tenant: 1, edits: 1, ..NOTHING });
    finds(Broken::IgnoresGate, "I6", with(Budget { terms: 1, ..NOTHING }));
    finds(Broken::RemovesAtOnce, "removals: after", edits);
    finds(Broken::Recreates, "I3: what is planned", tenant);
    finds(Broken::AppliesByName, "I3: a repair makes", with(Budget { tenant: 2, ..NOTHING }));
    finds(Broken::DeletesByName, "I4", both);
    finds(Broken::BelievesLabels, "I4", edits);
    let forged = Setup { budget: Budget { forgeries: 1, ..NOTHING }, ..SETTLED };
    finds(Broken::BelievesOwners, "I4", forged);
    finds(Broken::SeesNoForgery, "orphans", forged);
    finds(Broken::JudgesNoForgery, "bypasses", forged);
    finds(Broken::SeesNoTermination, "I5", with(Budget { namespace: 1, ..NOTHING }));
    finds(Broken::PlansInvalid, "removals: of a living", edits);
    finds(Broken::StoresNothing, "I3: there is no open moment", edits);
    finds(Broken::LosesDeletions, "I1", tenant);
    finds(Broken::AdmissionOpens, "I2", with(NOTHING));
    finds(Broken::ListsTooEarly, "nothing before", with(NOTHING));
    let released = Setup { budget: Budget { releases: 1, lags: 0, ..NOTHING }, ..SETTLED };
    finds(Broken::AsksNobody, "guard: nothing", released);
    let confirmed = Setup { budget: Budget { releases: 2, lags: 0, ..NOTHING }, ..SETTLED };
    finds(Broken::BelievesConfirmations, "guard: nothing", confirmed);
    finds(Broken::SendsAllowsAtOnce, "order: nothing", WITH_ALLOW);
    finds(Broken::RemovesAllowsAtOnce, "order: no allow", Setup { allows: true, ..confirmed });
    let lost = Budget { faults: 1, ..NOTHING };
    finds(Broken::GoesOnAfterFailures, "order: nothing", Setup { budget: lost, ..WITH_ALLOW });
    let restored = Setup { budget: Budget { restores: 1, tenant: 1, edits: 1, lags: 0, ..NOTHING }, ..SETTLED };
    finds(Broken::NoticesNoRestore, "I1", restored);
    let edited = Setup { budget: Budget { restores: 1, edits: 1, lags: 0, ..NOTHING }, ..SETTLED };
    finds(Broken::WritesOn, "I3: what is planned", edited);
    let of_two = Setup { budget: Budget { edits: 1, ..TWO_RESTORED.budget }, ..TWO_RESTORED };
    finds(Broken::NoticesNoRestore, "I1", of_two);
    finds(Broken::StandbyNoticesNoRestore, "I1", of_two);
    finds(Broken::BelievesOldLists, "nothing before", Setup { budget: Budget { refusals: 1, edits: 1, ..NOTHING }, ..SETTLED });
}
