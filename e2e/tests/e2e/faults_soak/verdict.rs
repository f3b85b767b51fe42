//! The checks of the judge: at each rest, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{AuditEntry, AuditMark, TIMEOUT, World};

use super::guarded::OPEN;
use super::model::Health;
use super::obstacles::is_forged;
use super::order::History;
use super::others::is_disguised;
use super::seats::{Needs, Seat};
use super::shape::Place;
use super::{NAMES, SENTINEL, Soak};
use crate::faults::{PLACE, TERM};
use crate::judge::{Sent, Sentinel, Written, check_rest, check_terms, writes_of};
use crate::rollout::until_stored;
use crate::scene::{Plan, condition, policies_of, until_status};

/// Longer than the longest pause between two attempts to write.
const CONVERGE: Duration = Duration::from_mins(2);
/// How much more memory an instance may use, in MB.
const MORE_MEMORY: u64 = 32;
/// After a connection was cut, one additional connection may exist for a while. Its tasks are not a leak: leaks add up and soon exceed
/// this.
const MORE_TASKS: u64 = 2;
/// How many times tasks are counted at rest. The lowest count is used, because a renewal of the Lease, for example, is no leak.
const LOOKS: usize = 20;

impl Soak {
    /// Waits until everything is as planned, and checks everything else.
    pub async fn rest(&mut self) {
        self.calm().await;
        let begun = Instant::now();
        let all: BTreeSet<String> = self.judge.spaces.keys().cloned().collect();
        let leftovers = self.until_as_planned(&all).await;
        self.until_told().await;
        // A policy that was made unrecognisable before it was dropped from the plan belongs to nobody. Its tenants delete it: until then, an
        // opt-out from it says that it is still there.
        for (name, policy) in leftovers {
            let policies = policies_of(&self.client, &name);
            // It may have been edited when it already belonged to nobody. Its uid is checked here for the last time.
            if let Some(uid) = self.judge.space(&name).edited.remove(&policy) {
                let left = policies.get(&policy).await.unwrap();
                assert_eq!(left.uid(), Some(uid), "I3: {name}/{policy} was only edited, and is another now");
            }
            policies.delete(&policy, &DeleteParams::default()).await.unwrap();
        }
        self.until_opt_outs_told().await;
        let took = begun.elapsed();
        self.converged.push(took);
        self.until_clear().await;
        self.judge.relieve();

        self.judge.spaces.values_mut().for_each(|space| space.disguised.clear());
        self.judge.check_what_is_stored(&self.world, &self.client, |name| self.model.plan(name)).await;
        self.until_orphans_told().await;
        for instance in self.seats.iter().filter_map(|seat| seat.instance.as_ref()) {
            instance.check_log();
        }
        self.unsteady.clear();
        let before = self.model.planned();
        self.model.converged();
        // Now every wave has reached all namespaces.
        for (name, policy) in self.model.planned().difference(&before) {
            self.judge.plans(name, policy);
        }
        self.told = self.api_addresses();
        self.tellers = [Place::Platform, Place::Strict].into_iter().filter(|of| self.model.shape(*of).needs_api()).collect();
        self.bring_api_back().await;
        let (turn, at) = (self.turn, self.begun.elapsed().as_secs());
        println!("after {at} s, {turn} turns: as planned within {} ms, {} namespaces", took.as_millis(), all.len());
    }

    /// I7: namespaces that never belonged to the strict baseline are as planned, although that baseline is broken.
    pub async fn check_the_other_baseline(&mut self) {
        let begun = Instant::now();
        let others = self.model.never_strict();
        self.until_as_planned(&others).await;
        if self.model.health == Health::Broken {
            let strict = Place::Strict.label();
            until_status(&self.world, strict, "stalled", |status| condition(status, "Stalled").status == "True").await;
        }
        self.converged.push(begun.elapsed());
    }

    pub async fn until_as_planned(&self, names: &BTreeSet<String>) -> BTreeSet<(String, String)> {
        let what = "every namespace holds exactly its plan";
        self.world.eventually(what, CONVERGE, async || self.compare(names).await.map(Some)).await.unwrap()
    }

    /// The policies that are left: they belong to nobody, or to a baseline that removes nothing now. The error says what is not as planned.
    async fn compare(&self, names: &BTreeSet<String>) -> Result<BTreeSet<(String, String)>, String> {
        let told = |err: kube::Error| err.to_string();
        let all: Api<NetworkPolicy> = Api::all(self.client.clone());
        let mut found: BTreeMap<String, Vec<NetworkPolicy>> = BTreeMap::new();
        for policy in all.list(&ListParams::default()).await.map_err(told)? {
            found.entry(policy.namespace().unwrap_or_default()).or_default().push(policy);
        }
        let mut leftovers = BTreeSet::new();
        for name in names {
            let space = &self.judge.spaces[name];
            let plan = self.model.plan(name);
            let planned = plan.as_ref().map(Plan::policies).unwrap_or_default();
            let is_left = |policy: &NetworkPolicy| {
                let its = policy.name_any();
                let is_known = planned.contains_key(&its) || space.theirs.contains_key(&its);
                let belongs_to_nobody = space.disguised.contains(&its) && is_disguised(policy);
                // A tenant forged it in the name of the strict baseline, which removes nothing now.
                let waits = self.model.health != Health::Valid && is_forged(policy, Place::Strict);
                !is_known && (belongs_to_nobody || waits)
            };
            let (left, found): (Vec<_>, Vec<_>) = found.remove(name).unwrap_or_default().into_iter().partition(is_left);
            leftovers.extend(left.into_iter().map(|policy| (name.clone(), policy.name_any())));
            if let Some(plan) = plan {
                let plan = space.theirs.keys().fold(plan, |plan, own| plan.beside(own));
                plan.compare(&found).map_err(|what| format!("{name}: {what}"))?;
            } else if let Some(policy) = found.iter().find(|policy| !space.theirs.contains_key(&policy.name_any())) {
                return Err(format!("{name}: {} is still there", policy.name_any()));
            }
        }
        Ok(leftovers)
    }

    fn protected(&self) -> [(&'static str, u32); 2] {
        let count = |place: Place| u32::try_from(self.model.all_in(place).len()).unwrap();
        [Place::Platform, Place::Strict].map(|place| (place.label(), count(place)))
    }

    /// Waits until the statuses of the baselines agree.
    async fn until_told(&self) {
        for place in [Place::Platform, Place::Strict] {
            let count = u32::try_from(self.model.all_in(place).len()).unwrap();
            let without = u32::try_from(self.model.opted_out(place)).unwrap();
            let api: BTreeSet<String> =
                self.model.api.iter().map(|(port, address)| format!("{address}/32 on port {port}")).collect();
            let settled = |status: &PolicyBaselineStatus| {
                let counts = &status.namespaces;
                let found = status.kubernetes_api.iter().flat_map(|api| &api.found).map(|found| found.what.clone());
                let is_found = !self.model.shape(place).needs_api() || found.collect::<BTreeSet<_>>() == api;
                let all =
                    counts.protected == count && counts.selected == count && counts.failed == 0 && counts.opted_out == without;
                let has_gone_out = status.rollout.is_none() && condition(status, "RolloutPaused").status == "Unknown";
                all && is_found && has_gone_out && condition(status, "Ready").status == "True"
            };
            until_status(&self.world, place.label(), &format!("{count} are protected, {without} opted out"), settled).await;
            let stored = usize::from(self.model.shape(place).goes_in_waves());
            until_stored(&self.world, place.label(), stored).await;
        }
    }

    /// Waits until everything was listed again. Until then a rule of the proxy waits for a list.
    async fn until_clear(&mut self) {
        let (turn, seats) = (self.turn, &mut self.seats);
        let clear = async || {
            for seat in seats.iter_mut() {
                seat.sky.attend(turn, seat.instance.is_some());
            }
            seats.iter().all(|seat| seat.sky.is_clear())
        };
        self.world.eventually("everything is listed again", TIMEOUT * 2, clear).await.unwrap();
    }

    fn writes(&self, since: AuditMark) -> Vec<Written> {
        let user = World::operator_user();
        writes_of(&self.world, since, |entry| (entry.user == user).then(|| entry.user_agent.clone()))
    }

    /// The needs of the first instance, once nothing was written for some renewals of the Lease.
    pub async fn needs(&mut self) -> Needs {
        let instance = self.seats[0].instance.as_ref().unwrap();
        instance.until_at_work(&self.world).await;
        let audit = self.world.audit().unwrap();
        let mut mark = audit.mark();
        let quiet = async || {
            let writes = self.writes(mark);
            let (leases, others): (Vec<_>, Vec<_>) = writes.iter().partition(|written| written.entry.resource == "leases");
            if !others.is_empty() {
                mark = audit.mark();
            }
            leases.len() >= 4
        };
        self.world.eventually("it comes to rest", TIMEOUT * 2, quiet).await.unwrap();
        let mut needs = instance.needs(&self.world).await;
        for _ in 0..LOOKS {
            self.beat.tick().await;
            needs.tasks = needs.tasks.min(instance.needs(&self.world).await.tasks);
        }
        println!("at rest {} has {} MB and {} tasks", needs.name, needs.memory, needs.tasks);
        needs
    }

    /// Checks at the end: no writes at rest (I2), all writes since the beginning (I3 to I6), and the needs of the first instance.
    pub async fn finish(mut self) {
        if self.seats[1].stop() {
            self.count("SIGTERM");
        }
        self.rest().await;
        let before = self.before.take().unwrap();
        let after = self.needs().await;
        assert_eq!(before.name, after.name, "the instance is another one");
        let plan = self.model.with_dns(Plan::of(SENTINEL));
        let sentinel = Sentinel { baseline: SENTINEL, label: (PLACE, SENTINEL), plan };
        check_rest(&self.world, &self.protected(), &sentinel, |mark| self.writes(mark)).await;

        let writes = self.writes(self.mark);
        let open = writes.iter().find(|written| written.entry.name.ends_with(OPEN));
        assert!(open.is_none(), "an allow that nobody confirmed was written: {:#?}", open.map(|written| &written.entry));
        let history = History::new(&self.judge, self.world.audit().unwrap().since(self.mark).unwrap());
        let is_taken_back = |AuditEntry { namespace, name, verb, timestamp, .. }: &AuditEntry| {
            verb == "delete" && history.may_take_back(namespace, name, *timestamp)
        };
        let removals = self.judge.check_removals(&writes, |written| is_taken_back(&written.entry));
        let mut exchanges: Vec<_> = self.seats.iter().flat_map(|seat| seat.sky.proxy.since(0)).collect();
        exchanges.sort_by_key(|one| one.at);
        let closings = history.check_closings(&exchanges);
        assert!(closings.judged > NAMES, "only {} namespaces were closed", closings.judged);
        println!("{} times a default-deny closed a namespace, after its allow", closings.judged);
        println!("{} times it closed what another instance had opened", closings.of_another);
        // Uses the times at which the proxies received the writes, because they may reach the API server later.
        let sent = exchanges.iter().filter(|one| one.asked.is_write()).map(|one| {
            let took_effect = one.code.is_some_and(|code| code < 300);
            Sent { by: &one.by, at: one.at, lease: one.asked.is_of("leases").then_some(took_effect), what: one }
        });
        let terms = check_terms(sent, TERM, |_| false);
        self.tell(&before, &after, (terms.writes, terms.number, removals));
        let (from, to) = (before.memory, after.memory);
        assert!(to < from + MORE_MEMORY, "memory grew from {from} MB to {to} MB");
        let (from, to) = (before.tasks, after.tasks);
        assert!(to <= from + MORE_TASKS, "there were {from} tasks at rest, and are {to}");
    }

    fn tell(&self, before: &Needs, after: &Needs, (writes, terms, removals): (usize, usize, usize)) {
        let worst = self.converged.iter().max().map_or(0, Duration::as_millis);
        let mut struck = BTreeMap::new();
        for (kind, times) in self.seats.iter().flat_map(|seat| &seat.sky.struck) {
            *struck.entry(*kind).or_insert(0) += times;
        }
        println!("\n| what | |\n|---|---|");
        println!("| seed | {} |", self.settings.seed);
        println!("| seconds | {} |", self.begun.elapsed().as_secs());
        println!("| turns | {} |", self.turn);
        for (what, times) in &self.done {
            println!("| {what} | {times} |");
        }
        for (kind, times) in &struck {
            println!("| faults: {kind:?} | {times} |");
        }
        println!("| waves that began | {} |", self.seats.iter().map(Seat::waves).sum::<usize>());
        println!("| faults that struck | {} |", struck.values().sum::<usize>());
        println!("| writes of the operator, in terms of the Lease | {writes}, {terms} |");
        println!("| removals by the operator | {removals} |");
        println!("| times that it had to converge, worst | {}, {worst} ms |", self.converged.len());
        println!("| resident, before and after | {} MB, {} MB |", before.memory, after.memory);
        println!("| tasks, before and after | {}, {} |", before.tasks, after.tasks);
        println!("| violations of I1 to I7 | 0 |");
    }
}
