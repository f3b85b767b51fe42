//! What must hold in every state that the model reaches.

use stateright::Property;

use super::{
    Action,
    cluster::{Baseline, Cluster, Deed, Make, Name, Owner, Plan, Write},
    replica::{Shown, Step},
    setup::Setup,
    world::{Rule, World},
};

/// The most writes until everything must be at rest, when nobody else does anything.
const ENOUGH_WRITES: u8 = 12;

/// In every state: no rule is broken, a state at rest is as planned (I1), and the writes end (I2). Together, the last two mean that the
/// namespace converges. Every step that happens by itself is one of finitely many observations and answers, or ends with a write. The
/// number of writes is limited. Stateright's `eventually` cannot be used, because it does not look at cycles.
pub fn properties(setup: &Setup) -> Vec<Property<Setup>> {
    let mut properties = vec![
        Property::always("I1: at rest the namespace holds its plan and nothing else of ours", |_, world: &World| {
            !world.is_at_rest() || world.is_as_planned()
        }),
        Property::always("I2: writing comes to an end", |_, world: &World| world.writes <= ENOUGH_WRITES),
        Property::always("I3: what is planned is not deleted", |_, world: &World| world.keeps(Rule::DeletedPlanned)),
        Property::always("I3: a repair makes no other object", |_, world: &World| world.keeps(Rule::MadeAnother)),
        Property::always("I3: there is no open moment", |_, world: &World| world.keeps(Rule::Opened)),
        Property::always("I4: nothing that is not ours is touched", |_, world: &World| world.keeps(Rule::TouchedForeign)),
        Property::always("bypasses: at rest each is told", |_, world: &World| !world.is_at_rest() || world.tells_bypasses()),
        Property::always("orphans: at rest each is counted", |_, world: &World| !world.is_at_rest() || world.counts_orphans()),
        Property::always("I5: nothing is created or removed in a namespace that is going", |_, world: &World| {
            world.keeps(Rule::WroteToGoing)
        }),
        Property::always("I5: what is left in a namespace that is going is right", |_, world: &World| {
            !world.only_waits_for_the_end() || world.what_is_left_is_right()
        }),
        Property::always("I6: nothing is sent with a closed gate", |_, world: &World| world.keeps(Rule::SentUnelected)),
        Property::always("removals: after all that is planned", |_, world: &World| world.keeps(Rule::RemovedEarly)),
        Property::always("removals: of a living, valid baseline", |_, world: &World| world.keeps(Rule::RemovedUnasked)),
        Property::always("guard: nothing opens by an edit that nobody confirmed", |_, world: &World| {
            world.keeps(Rule::OpenedUnconfirmed)
        }),
        Property::always("order: nothing is closed before its allow is confirmed", |_, world: &World| {
            world.keeps(Rule::ClosedWithoutAllow)
        }),
        Property::always("order: no allow goes before the default-deny", |_, world: &World| world.keeps(Rule::LeftWithoutAllow)),
        Property::always("nothing before everything is listed", |_, world: &World| world.keeps(Rule::Unlisted)),
    ];
    // The model is not empty: what it is about does happen.
    if setup.budget.edits > 0 {
        properties
            .push(Property::sometimes("the second plan takes the place of the first", |_, world: &World| world.has_followed()));
    }
    if setup.allows {
        let comes_first = |_: &Setup, world: &World| {
            let Cluster { policies, .. } = &world.cluster;
            !world.cluster.is_closed() && Plan::ALL.into_iter().any(|plan| policies.contains_key(&Name::Allow(plan)))
        };
        properties.push(Property::sometimes("the allow is there before the default-deny", comes_first));
    }
    if setup.budget.releases > 0 {
        let waits = |_: &Setup, world: &World| {
            let is_unconfirmed = world.cluster.baseline.is_some_and(|b| b.selects_nothing && !b.is_confirmed());
            world.is_at_rest() && is_unconfirmed && world.cluster.is_closed()
        };
        properties.push(Property::sometimes("an edit waits for its confirmation", waits));
    }
    if setup.budget.releases > 1 {
        let opens = |_: &Setup, world: &World| {
            let is_confirmed = world.cluster.baseline.is_some_and(|b| b.selects_nothing && b.is_confirmed());
            world.is_at_rest() && is_confirmed && !world.cluster.is_closed()
        };
        properties.push(Property::sometimes("a confirmed edit opens the namespace", opens));
    }
    if setup.budget.forgeries > 0 {
        let is_told = |_: &Setup, world: &World| world.is_at_rest() && world.sides.iter().any(|side| side.orphans() > 0);
        properties.push(Property::sometimes("a forged policy is counted", is_told));
    }
    if setup.budget.faults + setup.budget.terms > 0 {
        properties.push(Property::sometimes("a write comes late", |_, world: &World| !world.strays.is_empty()));
    }
    if setup.budget.restores > 0 && setup.sides > 1 {
        let follows = |_: &Setup, world: &World| world.budget.restores == 0 && world.sides[1].open && world.is_at_rest();
        properties.push(Property::sometimes("after a restore the standby leads", follows));
    }
    properties
}

impl World {
    /// Whether no rule is broken yet. The states after a broken rule are not explored.
    pub fn is_sound(&self) -> bool {
        self.broke.is_empty() && self.writes <= ENOUGH_WRITES
    }

    fn keeps(&self, rule: Rule) -> bool {
        !self.broke.contains(&rule)
    }

    fn found(&mut self, rule: Rule, broken: bool) {
        if broken && self.keeps(rule) {
            self.broke.push(rule);
        }
    }

    /// Whether only others can still do something.
    fn is_at_rest(&self) -> bool {
        let mut actions = Vec::new();
        self.goes_on(&mut actions);
        actions.is_empty()
    }

    /// Whether the namespace is being deleted, and nothing but its end can happen by itself.
    fn only_waits_for_the_end(&self) -> bool {
        let mut actions = Vec::new();
        self.goes_on(&mut actions);
        !actions.is_empty() && actions.iter().all(|action| matches!(action, Action::Vanish))
    }

    /// Whether each planned policy that still exists is right, if its namespace is selected.
    fn what_is_left_is_right(&self) -> bool {
        let Cluster { namespace, policies, baseline, .. } = &self.cluster;
        let selected = namespace.is_some_and(|ns| ns.selected) && baseline.is_some_and(|b| !b.selects_nothing);
        let Some(plan) = baseline.and_then(|b| b.asked).filter(|_| selected) else { return true };
        self.cluster.names(plan).all(|name| policies.get(&name).is_none_or(|policy| policy.make == Make::RIGHT))
    }

    fn is_as_planned(&self) -> bool {
        let Cluster { namespace, policies, baseline, .. } = &self.cluster;
        let (Some(namespace), Some(baseline)) = (namespace, baseline) else { return true };
        // While an edit waits, the namespace stays as it is.
        let Some(plan) = baseline.asked.filter(|_| !baseline.selects_nothing || baseline.is_confirmed()) else { return true };
        let selected = namespace.selected && !baseline.selects_nothing;
        let is_right = |name: Name| policies.get(&name).is_some_and(|policy| policy.make == Make::RIGHT);
        let is_not_ours = |name: Name| policies.get(&name).is_none_or(|policy| policy.make.owner != Owner::Baseline);
        let others = Plan::ALL.into_iter().filter(|other| *other != plan || !selected);
        let mut unplanned = others.flat_map(|other| self.cluster.names(other)).chain([Name::Forged]);
        (!selected || self.cluster.names(plan).all(is_right)) && unplanned.all(is_not_ours)
    }

    /// Whether the leader reports every policy that opens the namespace and that no plan contains, whatever its labels say.
    fn tells_bypasses(&self) -> bool {
        let Cluster { namespace, policies, baseline, .. } = &self.cluster;
        let Some(leader) = self.sides.iter().find(|side| side.open) else { return true };
        let selects = |b: &Baseline| !b.selects_nothing && namespace.is_some_and(|ns| ns.selected);
        let plan = baseline.filter(selects).and_then(|b| b.asked);
        let Some(plan) = plan else { return leader.bypasses().is_empty() };
        let is_planned = |name: &Name| self.cluster.names(plan).any(|planned| planned == *name);
        let opened = policies.iter().filter(|(name, policy)| policy.make.opened && !is_planned(name));
        leader.bypasses() == opened.map(|(name, _)| *name).collect()
    }

    /// Whether the leader counts every policy with our labels that belongs to no baseline.
    fn counts_orphans(&self) -> bool {
        let Cluster { namespace, policies, baseline, .. } = &self.cluster;
        let Some(leader) = self.sides.iter().find(|side| side.open) else { return true };
        let is_orphan = |owner| owner == Owner::Nobody || (owner == Owner::Baseline && baseline.is_none());
        let orphans = policies.values().filter(|policy| namespace.is_some() && is_orphan(policy.make.owner)).count();
        usize::try_from(leader.orphans()) == Ok(orphans)
    }

    fn has_followed(&self) -> bool {
        self.is_at_rest() && self.cluster.policies.contains_key(&Name::Planned(Plan::Second, 0)) && self.is_as_planned()
    }

    /// A job begins: its first writes must fit what the instance is shown now.
    pub fn judge_start(&mut self, i: usize) {
        self.judge(i);
    }

    /// Requests are sent, if the gate is open. Later writes of a job were decided before, but whether they are sent is decided now.
    pub fn judge_sending(&mut self, i: usize, sends: bool) {
        let side = &self.sides[i];
        let (open, listed) = (side.open, !side.stale.old && side.listed.iter().all(|listed| *listed));
        let follows = side.job.as_ref().is_some_and(|running| running.phase().start > 0);
        self.found(Rule::SentUnelected, sends && !open);
        self.found(Rule::Unlisted, sends && !listed);
        if sends && follows {
            self.judge(i);
        }
    }

    fn judge(&mut self, i: usize) {
        let side = &self.sides[i];
        let Some(running) = &side.job else { return };
        let waiting = |step: &Step| match step {
            Step::Waits(write) => Some(*write),
            Step::Sent(_) | Step::Answered(_) => None,
        };
        let phase = running.phase();
        let writes: Vec<Write> = running.steps[phase.clone()].iter().filter_map(waiting).collect();
        let written = Plan::ALL.map(Name::Allow).into_iter().filter(|name| running.has_written(*name)).collect::<Vec<_>>();
        // What was decided for a former namespace may reach the next one.
        let is_of_this_one = !running.doubtful;
        let is_known_to_go = phase.start == 0 || running.is_refused();
        let shown = side.shown.clone();
        let planned = self.cluster.planned(&shown);
        let confirmed = planned.iter().all(|name| shown.policy(*name).is_some_and(|policy| policy.make == Make::RIGHT));
        let asks = shown.baseline.is_some_and(|b| b.selects_nothing && !b.is_confirmed());
        for Write { name, deed, .. } in writes {
            let is_closed = |shown: &Shown| {
                let is_right = |name: Name| shown.policy(name).is_some_and(|policy| policy.make == Make::RIGHT);
                (0..self.cluster.roles).all(|role| Plan::ALL.into_iter().any(|plan| is_right(Name::Planned(plan, role))))
            };
            // What was written after the edit was under way when the edit came.
            let was_there = shown.policy(name).zip(shown.baseline).is_some_and(|(policy, edit)| policy.version < edit.generation);
            let removes = matches!(deed, Deed::Delete { .. });
            let opens = removes && was_there && is_closed(&shown) && !is_closed(&shown.without(name));
            self.found(Rule::OpenedUnconfirmed, asks && opens);
            self.found(Rule::DeletedPlanned, removes && planned.contains(&name));
            self.found(Rule::RemovedEarly, removes && !confirmed);
            self.found(Rule::RemovedUnasked, removes && shown.baseline.and_then(|b| b.asked).is_none());
            let is_shown = |name: Name| shown.policy(name).is_some_and(|policy| policy.make == Make::RIGHT);
            let is_denied = Plan::ALL.into_iter().any(|plan| is_shown(Name::Planned(plan, 0)));
            let allow = match (name, deed) {
                (Name::Planned(plan, _), Deed::Apply(_)) => self.cluster.names(plan).find(|name| matches!(name, Name::Allow(_))),
                _ => None,
            };
            let is_confirmed = |allow: Name| is_shown(allow) || written.contains(&allow);
            let lacks_allow = !shown.was_closed() && allow.is_some_and(|allow| !is_confirmed(allow));
            self.found(Rule::ClosedWithoutAllow, is_of_this_one && lacks_allow);
            let is_left = !Plan::ALL.into_iter().any(|plan| Name::Allow(plan) != name && is_shown(Name::Allow(plan)));
            let takes = matches!((name, deed), (Name::Allow(_), Deed::Delete { .. }));
            self.found(Rule::LeftWithoutAllow, takes && is_denied && is_left);
            let repairs = matches!(deed, Deed::Apply(Some(_)));
            let goes = shown.namespace.is_none_or(|ns| ns.terminating && !repairs);
            // What the watch shows during a job reaches its later writes only by an answer.
            self.found(Rule::WroteToGoing, goes && (removes || is_known_to_go));
        }
    }

    pub fn judge_landing(&mut self, before: &Cluster, write: Write) {
        let (was, is) = (before.policies.get(&write.name), self.cluster.policies.get(&write.name));
        let changed = was != is;
        let foreign = was.is_some_and(|policy| policy.make.owner != Owner::Baseline);
        let removes = matches!(write.deed, Deed::Delete { .. });
        let is_theirs = write.name == Name::Copy || (write.name == Name::Forged && !removes);
        self.found(Rule::TouchedForeign, changed && (is_theirs || (foreign && removes)));
        self.found(Rule::MadeAnother, changed && was.is_none() && write.repairs);
        let opened = self.calm && removes && before.is_closed() && !self.cluster.is_closed();
        self.found(Rule::Opened, opened);
    }
}

impl Cluster {
    /// Whether each role has a correct policy, under any planned name.
    fn is_closed(&self) -> bool {
        let is_right = |name: Name| self.policies.get(&name).is_some_and(|policy| policy.make == Make::RIGHT);
        (0..self.roles).all(|role| Plan::ALL.into_iter().any(|plan| is_right(Name::Planned(plan, role))))
    }

    /// What an instance plans, from what it was shown.
    fn planned(&self, shown: &Shown) -> Vec<Name> {
        let selected = shown.namespace.is_some_and(|ns| ns.selected && !ns.terminating);
        let plan = shown.baseline.filter(|b| !b.selects_nothing).and_then(|b| b.asked).filter(|_| selected);
        plan.map(|plan| self.names(plan).collect()).unwrap_or_default()
    }
}
