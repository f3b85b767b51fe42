//! A model of the decision loop: the real engine, once or twice, against a cluster in which anything may happen at any moment. It tries
//! every order of events. Each watch lags on its own; requests and answers are late or lost. There are other writers and crashes. A Lease
//! changes hands during writes; a namespace is deleted and created again; the baseline is edited.
//!
//! Any time may pass between two events: a delay ends after a moment or after an hour. The wall clock jumps forward and back at every
//! step. The leader election has a model of its own. Here only its promise counts: no gate opens while another one is open.

mod cluster;
mod replica;
mod rules;
mod setup;
mod state_key;
mod tests;
mod world;

use std::hash::{Hash, Hasher};

use stateright::{Model, Property};

pub use self::{cluster::SELECTED, state_key::StateKey};
use self::{
    cluster::{Answer, Asked, Cluster, Make, Name, Owner, Plan, Watch, Write},
    replica::{Replica, Step},
    setup::{Broken, Restore, Setup},
    world::World,
};

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    // Events that happen by themselves.
    List(usize, Watch),
    Show(usize, Watch),
    Acquire(usize),
    TellElection(usize),
    Start(usize),
    Send(usize),
    Land(usize, usize),
    Abandon(usize, usize),
    Finish(usize),
    Wait(usize),
    /// An instance notices that etcd was restored.
    Notice(usize),
    LandStray(usize),
    Vanish,
    Release(Name),
    // Changes by others.
    Change(Name, Make),
    Delete(Name),
    /// A tenant writes a policy with our labels, or deletes it.
    Forge(Name, Option<Make>),
    Edit(Option<Asked>),
    /// The baseline selects nothing from now on, or again what it did.
    Narrow(bool),
    /// The owner confirms the current generation.
    Confirm,
    Select(bool),
    Terminate,
    Recreate,
    // Faults.
    Lose(usize, usize),
    LoseLate(usize, usize),
    LoseAnswer(usize, usize),
    Crash(usize),
    Relist(usize, Watch),
    Refuse(usize, Watch),
    Restore(Restore),
    EndTerm(usize),
    Lag(usize),
}

impl World {
    fn essence(&self) -> Vec<u64> {
        let mut out = StateKey::default();
        self.cluster.essence(&mut out);
        self.sides.iter().for_each(|side| side.essence(&mut out));
        self.strays.iter().for_each(|write| write.essence(&mut out));
        out.word(&(self.budget, self.writes, self.calm, &self.broke));
        out.ageless()
    }

    fn new(setup: Setup) -> Self {
        let cluster = Cluster::new(&setup);
        let sides = (0..setup.sides).map(|_| Replica::new(&cluster)).collect();
        let Setup { budget, in_order, .. } = setup;
        let mut world = Self { cluster, sides, strays: vec![], budget, in_order, writes: 0, calm: true, broke: vec![] };
        if setup.settled {
            world.settle();
        }
        if setup.budget.restores > 0 {
            world.cluster.back_up();
        }
        world
    }

    fn settle(&mut self) {
        let mut actions = Vec::new();
        self.goes_on(&mut actions);
        while let Some(action) = actions.first() {
            self.apply(*action);
            actions.clear();
            self.goes_on(&mut actions);
        }
        self.writes = 0;
    }

    /// Adds the events that happen by themselves. If there is none, the world is at rest.
    fn goes_on(&self, actions: &mut Vec<Action>) {
        let nobody_leads = !self.sides.iter().any(|side| side.open);
        for (i, side) in self.sides.iter().enumerate() {
            let reports = |watch: Watch| match (side.must_list(watch), side.has_news(watch)) {
                (true, _) => Some(Action::List(i, watch)),
                (false, true) => Some(Action::Show(i, watch)),
                (false, false) => None,
            };
            let at_once = if self.in_order { 1 } else { Watch::ALL.len() };
            actions.extend(Watch::ALL.into_iter().filter_map(reports).take(at_once));
            let takes = nobody_leads && side.can_acquire() && (!self.in_order || side.is_in_sync());
            actions.extend(takes.then_some(Action::Acquire(i)));
            actions.extend(side.needs_telling().then_some(Action::TellElection(i)));
            actions.extend((side.has_work() && !side.is_ending()).then_some(Action::Start(i)));
            let notices = side.starts_anew() && self.cluster.broken != Some(Broken::NoticesNoRestore);
            actions.extend(notices.then_some(Action::Notice(i)));
            actions.extend((side.is_waiting() && !side.is_behind()).then_some(Action::Wait(i)));
            let Some(running) = &side.job else { continue };
            actions.extend((!running.phase().is_empty()).then_some(Action::Send(i)));
            actions.extend(running.is_done().then_some(Action::Finish(i)));
            for (step, state) in running.steps.iter().enumerate() {
                if matches!(state, Step::Sent(_)) {
                    actions.push(Action::Land(i, step));
                    actions.extend((!side.open).then_some(Action::Abandon(i, step)));
                }
            }
        }
        actions.extend((0..self.strays.len()).map(Action::LandStray));
        actions.extend(self.cluster.namespace.filter(|ns| ns.terminating).map(|_| Action::Vanish));
        let going = self.cluster.policies.iter().filter(|(_, policy)| policy.make.going);
        actions.extend(going.map(|(name, _)| Action::Release(*name)));
    }

    fn others_do(&self, actions: &mut Vec<Action>) {
        let Cluster { namespace, policies, baseline, roles, .. } = &self.cluster;
        if self.budget.tenant > 0 && namespace.is_some() {
            for (name, policy) in policies.iter().filter(|(name, policy)| name.is_planned() && !policy.make.going) {
                let makes = [
                    Make { opened: true, ..policy.make },
                    Make { owner: Owner::Foreign, ..policy.make },
                    Make { going: true, ..policy.make },
                ];
                actions.extend(makes.into_iter().filter(|make| *make != policy.make).map(|make| Action::Change(*name, make)));
                actions.push(Action::Delete(*name));
            }
            let free = Plan::ALL.map(|plan| Name::Planned(plan, roles - 1)).into_iter();
            let free = free.filter(|name| !policies.contains_key(name) && namespace.is_some_and(|ns| !ns.terminating));
            actions.extend(free.map(|name| Action::Change(name, Make::FOREIGN)));
        }
        if self.budget.forgeries > 0 && namespace.is_some_and(|ns| !ns.terminating) {
            let makes = [Owner::Baseline, Owner::Nobody].map(Make::forged);
            let changes = |name| makes.into_iter().map(move |make| Action::Forge(name, Some(make)));
            let disguised = policies.iter().filter(|(name, policy)| name.is_planned() && !policy.make.going);
            let disguised = disguised.map(|(name, policy)| (*name, Make { owner: Owner::Nobody, ..policy.make }));
            actions.extend(disguised.map(|(name, make)| Action::Forge(name, Some(make))));
            actions.extend(changes(Name::Forged).chain([Action::Forge(Name::Forged, None)]));
            let is_news = |action: &Action| match action {
                Action::Forge(name, make) => policies.get(name).map(|policy| policy.make) != *make,
                _ => true,
            };
            actions.retain(is_news);
        }
        if self.budget.edits > 0 {
            let asked = [None, Some(None), Some(Some(Plan::First)), Some(Some(Plan::Second))];
            actions.extend(asked.into_iter().filter(|asked| *asked != baseline.map(|b| b.asked)).map(Action::Edit));
        }
        if let Some(baseline) = baseline.filter(|_| self.budget.releases > 0) {
            actions.push(Action::Narrow(!baseline.selects_nothing));
            actions.extend((!baseline.is_confirmed()).then_some(Action::Confirm));
        }
        if self.budget.namespace > 0 {
            match namespace {
                None => actions.push(Action::Recreate),
                Some(ns) if ns.terminating => {}
                Some(ns) => actions.extend([Action::Select(!ns.selected), Action::Terminate]),
            }
        }
    }

    fn fails(&self, actions: &mut Vec<Action>) {
        if self.budget.restores > 0 {
            let kinds = Restore::ALL.into_iter().filter(|how| self.budget.only.is_none_or(|only| only == *how));
            actions.extend(kinds.map(Action::Restore));
        }
        for (i, side) in self.sides.iter().enumerate() {
            if self.budget.terms > 0 && side.open {
                actions.push(Action::EndTerm(i));
            }
            if self.budget.lags > 0 && (side.is_refused() || (side.is_waiting() && side.is_behind())) {
                actions.push(Action::Lag(i));
            }
            let listed = Watch::ALL.into_iter().filter(|watch| !side.must_list(*watch));
            if self.budget.refusals > 0 {
                actions.extend(listed.clone().map(|watch| Action::Refuse(i, watch)));
            }
            if self.budget.faults == 0 {
                continue;
            }
            actions.extend(listed.map(|watch| Action::Relist(i, watch)));
            actions.push(Action::Crash(i));
            let steps = side.job.iter().flat_map(|running| running.steps.iter().enumerate());
            for (step, _) in steps.filter(|(_, state)| matches!(state, Step::Sent(_))) {
                actions.extend([Action::Lose(i, step), Action::LoseLate(i, step), Action::LoseAnswer(i, step)]);
            }
        }
    }

    fn apply(&mut self, action: Action) {
        self.account(action);
        match action {
            Action::List(i, watch) | Action::Relist(i, watch) => self.sides[i].list(watch, &self.cluster),
            Action::Show(i, watch) => self.sides[i].show(watch, &self.cluster),
            Action::Acquire(i) => self.sides[i].open = true,
            Action::EndTerm(i) => self.sides[i].open = false,
            Action::TellElection(i) => self.sides[i].tell_election(),
            Action::Start(i) => {
                self.sides[i].start(self.cluster.broken);
                self.judge_start(i);
            }
            Action::Send(i) => self.send(i),
            Action::Land(i, step) => {
                let answer = self.land(self.sent(i, step));
                self.answer(i, step, answer);
            }
            Action::Abandon(i, step) => {
                self.strays.push(self.sent(i, step));
                self.answer(i, step, Answer::NotLeading);
            }
            Action::Lose(i, step) => self.answer(i, step, Answer::Lost),
            Action::LoseLate(i, step) => {
                self.strays.push(self.sent(i, step));
                self.answer(i, step, Answer::Lost);
            }
            Action::LoseAnswer(i, step) => {
                self.land(self.sent(i, step));
                self.answer(i, step, Answer::Lost);
            }
            Action::Finish(i) => self.sides[i].finish(&self.cluster),
            Action::Wait(i) | Action::Lag(i) => self.sides[i].wait(),
            Action::LandStray(stray) => {
                let write = self.strays.remove(stray);
                self.land(write);
            }
            Action::Crash(i) | Action::Notice(i) => self.start_anew(i),
            Action::Refuse(i, watch) => self.sides[i].refuse(watch),
            Action::Restore(how) => {
                let latest = self.cluster.clock;
                self.cluster.restore(how);
                self.sides.iter_mut().for_each(|side| side.is_restored(how, latest));
            }
            Action::Vanish => self.cluster.vanish(),
            Action::Release(name) | Action::Delete(name) | Action::Forge(name, None) => self.cluster.remove(name),
            Action::Change(name, make) | Action::Forge(name, Some(make)) => drop(self.cluster.change(name, make)),
            Action::Edit(asked) => self.cluster.edit(asked),
            Action::Narrow(selects_nothing) => self.cluster.narrow(selects_nothing),
            Action::Confirm => self.cluster.confirm(),
            Action::Select(selected) => {
                let Some(ns) = self.cluster.namespace else { return };
                self.cluster.set_namespace(cluster::Namespace { selected, ..ns });
            }
            Action::Terminate => {
                let Some(ns) = self.cluster.namespace else { return };
                self.cluster.set_namespace(cluster::Namespace { terminating: true, ..ns });
            }
            Action::Recreate => self.cluster.create_namespace(),
        }
        for news in std::mem::take(&mut self.cluster.news) {
            self.sides.iter_mut().for_each(|side| side.hears(news, self.cluster.clock));
        }
    }

    /// The instance forgets everything. Its requests stay on their way.
    fn start_anew(&mut self, i: usize) {
        let steps = self.sides[i].job.take().map(|running| running.steps).unwrap_or_default();
        self.strays.extend(steps.into_iter().filter_map(|step| match step {
            Step::Sent(write) => Some(write),
            Step::Waits(_) | Step::Answered(_) => None,
        }));
        self.sides[i] = Replica::new(&self.cluster);
    }

    /// Takes the cost of an action from the budget.
    fn account(&mut self, action: Action) {
        let budget = &mut self.budget;
        let spent = match action {
            Action::Change(..) | Action::Delete(_) => &mut budget.tenant,
            Action::Forge(..) => &mut budget.forgeries,
            Action::Edit(_) => &mut budget.edits,
            Action::Narrow(_) | Action::Confirm => &mut budget.releases,
            Action::Select(_) | Action::Terminate | Action::Recreate => &mut budget.namespace,
            Action::Lose(..) | Action::LoseLate(..) | Action::LoseAnswer(..) | Action::Crash(_) | Action::Relist(..) => {
                &mut budget.faults
            }
            Action::Refuse(..) => &mut budget.refusals,
            Action::Restore(_) => &mut budget.restores,
            Action::EndTerm(_) => &mut budget.terms,
            Action::Lag(_) => &mut budget.lags,
            _ => return,
        };
        *spent -= 1;
        self.writes = 0;
        self.calm &= matches!(action, Action::Edit(_) | Action::Lag(_));
    }

    fn sent(&self, i: usize, step: usize) -> Write {
        match self.sides[i].job.as_ref().map(|running| running.steps[step]) {
            Some(Step::Sent(write)) => write,
            other => unreachable!("{other:?} is not on its way"),
        }
    }

    fn send(&mut self, i: usize) {
        let open = self.sides[i].open;
        let ignores_gate = self.cluster.broken == Some(Broken::IgnoresGate);
        self.judge_sending(i, open || ignores_gate);
        let Some(running) = &mut self.sides[i].job else { return };
        for step in running.phase() {
            let Step::Waits(write) = running.steps[step] else { continue };
            if open || ignores_gate {
                self.writes += 1;
                running.steps[step] = Step::Sent(write);
            } else {
                running.steps[step] = Step::Answered(Answer::NotLeading);
            }
        }
        self.sides[i].withhold(&self.cluster);
    }

    fn land(&mut self, write: Write) -> Answer {
        let before = self.cluster.clone();
        let answer = self.cluster.serve(write);
        self.judge_landing(&before, write);
        answer
    }

    fn answer(&mut self, i: usize, step: usize, answer: Answer) {
        self.sides[i].answered(step, answer);
        self.sides[i].withhold(&self.cluster);
    }
}

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(*self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.is_sound() {
            world.goes_on(actions);
            world.others_do(actions);
            world.fails(actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.apply(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        rules::properties(self)
    }
}
