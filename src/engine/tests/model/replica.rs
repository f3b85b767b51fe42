//! One instance in the model: the real engine, the events that its watches have not shown yet, its gate, and its current job.
//!
//! One file: all that one instance does in the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use strum::VariantArray;

use super::{
    cluster::{Answer, Baseline, Cluster, Deed, Make, NAMESPACE, Name, Namespace, News, OWN, Owner, Policy, Watch, Write},
    setup::{Broken, Restore},
    state_key::StateKey,
};
use crate::{
    api::{NamespaceName, Uid, backends::ConfigurationKind, reason::Failure},
    engine::{
        Engine,
        clock::Now,
        facts::event::{Change, Event, ListPhase, ListRefusal},
        writes::{Done, Job, Task, WriteError, Wrote},
    },
    policy::drift::{Class, Repair},
};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The wall clock jumps to one of these at every step.
const WALL: [i64; 3] = [1_700_000_000, 0, 4_000_000_000];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Watch,
    List,
}

/// What an instance was shown. Kept apart from the engine, because the rules judge the engine by it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub namespace: Option<Namespace>,
    /// The newest state from watches and answers; deleted policies with the version of their deletion.
    policies: BTreeMap<Name, (u64, Option<Policy>)>,
    pub baseline: Option<Baseline>,
    /// The uid of the last namespace.
    last: Option<u64>,
    /// The uid of the namespace that was last shown with a default-deny of its own.
    closed: Option<u64>,
    /// The version at which the watch showed the namespace to appear; 0 if a list named it first. Older policies were in the former one.
    appeared: u64,
}

impl Shown {
    /// What a watch reports, or a list.
    fn take(&mut self, news: News, by: Source) {
        match news {
            News::Namespace(ns) => {
                if self.last != Some(ns.uid) {
                    self.appeared = if by == Source::Watch { ns.created } else { 0 };
                    self.policies.retain(|_, (version, _)| *version > self.appeared);
                }
                // What was shown before the first namespace is its own; later it may be that of the former one.
                let is_denied =
                    self.policies.iter().any(|(name, (_, policy))| matches!(name, Name::Planned(..)) && policy.is_some());
                if self.last.is_none() && is_denied {
                    self.closed = Some(ns.uid);
                }
                self.last = Some(ns.uid);
                self.namespace = Some(ns);
            }
            News::NamespaceGone(_) => self.namespace = None,
            News::Policy(name, policy) => self.learn(name, policy.version, Some(policy)),
            News::PolicyGone(name, policy) => self.learn(name, policy.version, None),
            News::Baseline(baseline) => self.baseline = Some(baseline),
            News::BaselineGone(_) => self.baseline = None,
        }
    }

    fn learn(&mut self, name: Name, version: u64, policy: Option<Policy>) {
        let is_of_former = version < self.appeared;
        if !is_of_former && self.policies.get(&name).is_none_or(|(known, _)| *known <= version) {
            self.policies.insert(name, (version, policy));
            if matches!(name, Name::Planned(..)) && policy.is_some() {
                self.closed = self.namespace.map(|ns| ns.uid).or(self.closed);
            }
        }
    }

    /// Whether the namespace is closed, or was while this instance watched.
    pub fn was_closed(&self) -> bool {
        self.closed.is_some() && self.closed == self.namespace.map(|ns| ns.uid)
    }

    /// Its removal was confirmed.
    fn lose(&mut self, name: Name, uid: u64) {
        if let Some((_, known)) = self.policies.get_mut(&name)
            && known.is_some_and(|policy| policy.uid == uid)
        {
            *known = None;
            if matches!(name, Name::Planned(..)) {
                self.closed = None;
            }
        }
    }

    /// The same after this policy is gone.
    pub fn without(&self, name: Name) -> Self {
        let mut shown = self.clone();
        shown.policies.remove(&name);
        shown
    }

    pub fn policy(&self, name: Name) -> Option<Policy> {
        self.policies.get(&name).and_then(|(_, policy)| *policy)
    }
}

/// A job that is under way.
#[derive(Clone, Debug)]
pub struct Running {
    job: Job,
    /// Where each phase of its writes ends.
    ends: Vec<usize>,
    /// A list was taken or the namespace was deleted during the job. An answer about a policy that no watch has shown may be outdated.
    pub doubtful: bool,
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Waits(Write),
    Sent(Write),
    Answered(Answer),
}

impl Running {
    /// The phase of which tasks may be sent now. It comes only after all tasks of the phases before it are answered.
    pub fn phase(&self) -> Range<usize> {
        let mut start = 0;
        for &end in &self.ends {
            let phase = &self.steps[start..end];
            if phase.iter().any(|step| matches!(step, Step::Waits(_))) {
                return start..end;
            }
            if !phase.iter().all(|step| matches!(step, Step::Answered(_))) {
                break;
            }
            start = end;
        }
        0..0
    }

    /// Whether this job wrote the policy, and it was answered as planned.
    pub fn has_written(&self, name: Name) -> bool {
        let is_stored = |step: &Step| matches!(step, Step::Answered(Answer::Stored(policy)) if policy.make == Make::RIGHT);
        self.steps.iter().zip(&self.job.tasks).any(|(step, task)| is_stored(step) && Name::of(&task.drift.policy) == name)
    }

    /// Whether an answer said that the namespace is being deleted.
    pub fn is_refused(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Answered(Answer::Terminating)))
    }

    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Answered(_)))
    }
}

/// Why what it knows may be wrong.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Stale {
    /// A list was refused for so long that what is known of it is old.
    pub old: bool,
    /// It has not noticed yet that etcd was restored.
    pub outdated: bool,
}

#[derive(Clone)]
pub struct Replica {
    engine: Arc<Engine>,
    elapsed: Duration,
    turns: usize,
    /// Whether its gate is open.
    pub open: bool,
    /// The state of the gate that the engine was last given.
    told: bool,
    pub listed: [bool; 3],
    /// Its list is refused.
    refused: [bool; 3],
    pub stale: Stale,
    /// Its watches show only what has a higher version.
    shows_after: u64,
    broken: Option<Broken>,
    feeds: [Vec<News>; 3],
    pub shown: Shown,
    pub job: Option<Running>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open: {}, told: {}, listed: {:?}, to come: {:?}, ", self.open, self.told, self.listed, self.feeds)?;
        write!(f, "shown: {:?}, job: {:?}", self.shown, self.job.as_ref().map(|running| &running.steps))
    }
}

impl Replica {
    /// An instance that has just started.
    pub fn new(&Cluster { broken, guarded, .. }: &Cluster) -> Self {
        let mut engine = Engine::new(OWN);
        if guarded && broken != Some(Broken::AsksNobody) {
            engine.asks_from(1);
        }
        let mut side = Self {
            engine: Arc::new(engine),
            elapsed: Duration::ZERO,
            turns: 0,
            open: false,
            told: false,
            listed: [false; 3],
            refused: [false; 3],
            stale: Stale::default(),
            shows_after: 0,
            broken,
            feeds: Default::default(),
            shown: Shown::default(),
            job: None,
        };
        for phase in [ListPhase::Begin, ListPhase::End] {
            side.see(Event::Install(phase.change()));
            side.see(Event::OptOut(phase.change()));
            for kind in ConfigurationKind::VARIANTS.iter().copied() {
                side.see(Event::Configuration(kind, phase.change()));
            }
        }
        side
    }

    fn now(&self) -> Now {
        let wall = Timestamp::from_second(WALL[self.turns % WALL.len()]).unwrap();
        Now { instant: *START + self.elapsed, wall }
    }

    fn turn<T>(&mut self, turn: impl FnOnce(&mut Engine, Now) -> T) -> T {
        self.turns += 1;
        let now = self.now();
        let engine = Arc::make_mut(&mut self.engine);
        let result = turn(engine, now);
        while engine.assess_dirty(now) {}
        engine.take_announcements();
        engine.take_samples();
        // The run ends before the next decision, and shuts its gate.
        self.open &= !self.is_ending();
        result
    }

    fn see(&mut self, seen: Event) {
        self.turn(|engine, now| engine.on_event(seen, now));
    }

    pub fn hears(&mut self, news: News, version: u64) {
        let watch = news.watch() as usize;
        if self.listed[watch] && !self.refused[watch] && version > self.shows_after {
            self.feeds[watch].push(news);
        }
    }

    /// Whether its watches have something left to show.
    pub fn is_behind(&self) -> bool {
        self.listed.contains(&false) || self.is_refused() || self.stale.outdated || self.feeds.iter().any(|feed| !feed.is_empty())
    }

    /// Whether a list of this set comes next.
    pub fn must_list(&self, watch: Watch) -> bool {
        !self.listed[watch as usize] || self.refused[watch as usize]
    }

    /// The watch ends, and the list after it is refused.
    pub fn refuse(&mut self, watch: Watch) {
        self.feeds[watch as usize].clear();
        self.refused[watch as usize] = true;
        if self.broken == Some(Broken::BelievesOldLists) {
            return;
        }
        match watch {
            Watch::Namespaces => self.see_refusal(Event::Namespace),
            Watch::Policies => self.see_refusal(Event::Policy),
            Watch::Baselines => self.see_refusal(Event::Baseline),
        }
    }

    fn see_refusal<T>(&mut self, event: impl Fn(Change<T>) -> Event) {
        self.see(event(Change::ListBegan));
        self.see(event(Change::Refused(ListRefusal::Forbidden, String::new())));
    }

    pub fn is_refused(&self) -> bool {
        self.refused.contains(&true)
    }

    /// etcd was restored. `latest` is the highest version before.
    pub fn is_restored(&mut self, how: Restore, latest: u64) {
        self.stale.outdated = self.open || self.broken != Some(Broken::StandbyNoticesNoRestore);
        self.feeds.iter_mut().for_each(Vec::clear);
        match how {
            Restore::Plain => self.shows_after = latest,
            // Expired watches begin with a list.
            Restore::Bumped => {
                let listed = self.listed;
                Watch::ALL.into_iter().filter(|watch| listed[*watch as usize]).for_each(|watch| self.refuse(watch));
            }
        }
    }

    /// Whether a list has shown that what it knows is of another past.
    pub fn is_ending(&self) -> bool {
        self.broken != Some(Broken::WritesOn) && self.engine.must_list_again().is_some()
    }

    /// Whether it can see that what it knows is of another past: by the version of the Lease, or of a baseline.
    pub fn starts_anew(&self) -> bool {
        self.stale.outdated || self.is_ending()
    }

    /// Whether it can take the Lease, if nobody holds it. Who takes it reads or writes it, and so notices a restore first.
    pub fn can_acquire(&self) -> bool {
        !self.stale.old && !self.starts_anew()
    }

    /// Whether it has listed everything, so that it takes the Lease at all.
    pub fn is_in_sync(&self) -> bool {
        self.engine.may_lead(self.now())
    }

    pub fn has_news(&self, watch: Watch) -> bool {
        !self.feeds[watch as usize].is_empty()
    }

    pub fn show(&mut self, watch: Watch, cluster: &Cluster) {
        let news = self.feeds[watch as usize].remove(0);
        if matches!(news, News::NamespaceGone(_)) {
            self.doubt();
        }
        self.shown.take(news, Source::Watch);
        self.tell(news, cluster);
        self.forget_what_is_gone();
    }

    fn tell(&mut self, news: News, cluster: &Cluster) {
        let policy = |name, policy| Box::new(cluster.policy_object(name, policy));
        self.see(match news {
            News::Namespace(ns) => Event::Namespace(Change::Applied(cluster.namespace_object(ns).into())),
            News::NamespaceGone(ns) => Event::Namespace(Change::Deleted(cluster.namespace_object(ns).into())),
            News::Policy(name, made) => Event::Policy(Change::Applied(policy(name, made))),
            News::PolicyGone(..) if cluster.broken == Some(Broken::LosesDeletions) => return,
            News::PolicyGone(name, made) => Event::Policy(Change::Deleted(policy(name, made))),
            News::Baseline(baseline) => Event::Baseline(Change::Applied(Box::new(cluster.baseline_object(baseline)))),
            News::BaselineGone(baseline) => Event::Baseline(Change::Deleted(Box::new(cluster.baseline_object(baseline)))),
        });
    }

    /// Lists again: the instance sees the current state of the cluster.
    pub fn list(&mut self, watch: Watch, cluster: &Cluster) {
        let phase = |phase: ListPhase| match watch {
            Watch::Namespaces => Event::Namespace(phase.change()),
            Watch::Policies => Event::Policy(phase.change()),
            Watch::Baselines => Event::Baseline(phase.change()),
        };
        let news: Vec<News> = match watch {
            Watch::Namespaces => cluster.namespace.map(News::Namespace).into_iter().collect(),
            Watch::Policies => cluster.policies.iter().map(|(name, policy)| News::Policy(*name, *policy)).collect(),
            Watch::Baselines => cluster.baseline.map(News::Baseline).into_iter().collect(),
        };
        let before = self.shown.namespace.map(|ns| ns.uid);
        if watch == Watch::Policies || (watch == Watch::Namespaces && before != cluster.namespace.map(|ns| ns.uid)) {
            self.doubt();
        }
        match watch {
            Watch::Namespaces => self.shown.namespace = None,
            Watch::Policies => self.shown.policies.clear(),
            Watch::Baselines => self.shown.baseline = None,
        }
        self.feeds[watch as usize].clear();
        self.listed[watch as usize] = true;
        self.refused[watch as usize] = false;
        self.stale.old &= self.is_refused();
        let early = cluster.broken == Some(Broken::ListsTooEarly);
        if early {
            self.see(Event::Namespace(Change::ListDone));
            self.see(Event::Policy(Change::ListDone));
            self.see(Event::Baseline(Change::ListDone));
        }
        self.see(phase(ListPhase::Begin));
        for item in news {
            self.shown.take(item, Source::List);
            self.tell(item, cluster);
        }
        self.see(phase(ListPhase::End));
    }

    fn doubt(&mut self) {
        if let Some(running) = &mut self.job {
            running.doubtful = true;
        }
    }

    pub fn needs_telling(&self) -> bool {
        self.told != self.open
    }

    pub fn tell_election(&mut self) {
        self.told = self.open;
        let open = self.open;
        self.turn(|engine, now| engine.elect(open, now));
    }

    pub fn has_work(&self) -> bool {
        self.job.is_none() && self.engine.has_work()
    }

    pub fn is_waiting(&self) -> bool {
        self.engine.is_waiting(self.now())
    }

    /// A long time passes.
    pub fn wait(&mut self) {
        self.stale.old |= self.is_refused();
        // What is over after the first hour may begin another wait.
        for _ in 0..2 {
            self.elapsed += Duration::from_hours(1);
            self.turn(|_, _| ());
        }
        // Who may not lead gives the Lease up.
        self.open &= self.engine.may_lead(self.now());
    }

    pub fn start(&mut self, broken: Option<Broken>) {
        let Some(mut job) = self.turn(Engine::next_job) else { return };
        let first = job.put_in_order();
        let mut ends = ends(&job);
        if broken == Some(Broken::RemovesAtOnce) && first > 0 {
            job.tasks.extend(self.removals(&job));
            ends = vec![job.tasks.len()];
        }
        if broken == Some(Broken::SendsAllowsAtOnce) {
            ends = vec![first, job.tasks.len()];
        }
        if broken == Some(Broken::RemovesAllowsAtOnce) && first == 0 {
            job.tasks.extend(self.removals(&job));
            ends = vec![job.tasks.len()];
        }
        let steps = job.tasks.iter().map(|task| Step::Waits(write(task, broken))).collect();
        self.job = Some(Running { job, ends, doubtful: false, steps });
    }

    /// Removals of all our policies that the job does not write.
    fn removals(&self, job: &Job) -> Vec<Task> {
        let written = |name: Name| job.tasks.iter().any(|task| Name::of(&task.drift.policy) == name);
        let ours = self.shown.policies.iter().filter_map(|(name, (_, policy))| Some((*name, (*policy)?)));
        let left = ours.filter(|(name, policy)| policy.make.owner == Owner::Baseline && !written(*name));
        let removal = |(name, policy): (Name, Policy)| {
            let mut task = job.tasks[0].clone();
            task.drift.policy = name.text();
            task.drift.fix = Repair::Delete { uid: (&*policy.uid.to_string()).into(), version: policy.version };
            task
        };
        left.map(removal).collect()
    }

    /// An answer arrives.
    pub fn answered(&mut self, step: usize, answer: Answer) {
        let Some(running) = &mut self.job else { return };
        running.steps[step] = Step::Answered(answer);
        self.learn_from(step);
    }

    /// What a write returned is the newest state, unless a deletion of it may have been missed.
    fn learn_from(&mut self, step: usize) {
        let Some(running) = &self.job else { return };
        let drift = &running.job.tasks[step].drift;
        let name = Name::of(&drift.policy);
        match (running.steps[step], &drift.fix) {
            (Step::Answered(Answer::Stored(policy)), _) if !running.doubtful || self.shown.policy(name).is_some() => {
                self.shown.learn(name, policy.version, Some(policy));
            }
            (Step::Answered(Answer::Removed), Repair::Delete { uid, .. }) => self.shown.lose(name, number(uid)),
            _ => {}
        }
    }

    /// Skips what must not be sent, because a write that must come first failed.
    pub fn withhold(&mut self, cluster: &Cluster) {
        while let Some(step) = self.next_withheld(cluster) {
            self.answered(step, Answer::Withheld);
        }
    }

    fn next_withheld(&self, cluster: &Cluster) -> Option<usize> {
        let running = self.job.as_ref()?;
        let phase = running.phase();
        if phase.start == 0 || self.broken == Some(Broken::GoesOnAfterFailures) {
            return None;
        }
        let results: Vec<_> = (0..phase.start).map(|step| self.result(step, cluster)).collect();
        let may_send = running.job.next_writes(&results);
        let is_withheld = |(step, may_send): &(usize, bool)| !may_send && matches!(running.steps[*step], Step::Waits(_));
        phase.zip(may_send).find(is_withheld).map(|(step, _)| step)
    }

    fn result(&self, step: usize, cluster: &Cluster) -> Result<Wrote, WriteError> {
        let failed = |reason| Err(WriteError::Failed { reason, message: String::new() });
        let running = self.job.as_ref().unwrap();
        let Step::Answered(answer) = running.steps[step] else { unreachable!("it is not answered yet") };
        match answer {
            Answer::Stored(policy) => {
                let name = Name::of(&running.job.tasks[step].drift.policy);
                Ok(Wrote::Applied { stored: Box::new(cluster.policy_object(name, policy)), before: None })
            }
            Answer::Removed => Ok(Wrote::Removed),
            Answer::Withheld => Ok(Wrote::Withheld),
            Answer::Conflict => failed(Failure::Conflict),
            Answer::Terminating => Err(WriteError::NamespaceTerminating),
            Answer::NotLeading => Err(WriteError::NotLeading),
            Answer::Lost => failed(Failure::Unavailable),
        }
    }

    /// Ends the job and gives its results to the engine.
    pub fn finish(&mut self, cluster: &Cluster) {
        let Some(Running { steps, .. }) = &self.job else { return };
        let steps = steps.len();
        // A watch may have shown since that it exists.
        (0..steps).for_each(|step| self.learn_from(step));
        let results = (0..steps).map(|step| self.result(step, cluster)).collect();
        let Some(Running { job, .. }) = self.job.take() else { return };
        self.turn(|engine, now| engine.done(Done { job, results }, now));
        self.forget_what_is_gone();
    }

    /// Forgets deleted policies when no job is under way: no answer can then be older than a deletion.
    fn forget_what_is_gone(&mut self) {
        if self.job.is_none() {
            self.shown.policies.retain(|_, (_, policy)| policy.is_some());
        }
    }

    /// The policies that it reports as bypasses, by the findings that are stored.
    pub fn bypasses(&self) -> BTreeSet<Name> {
        self.engine.bypasses(&NamespaceName::observed(NAMESPACE)).map(Name::of).collect()
    }

    /// How many orphans it counts.
    pub fn orphans(&self) -> u32 {
        self.engine.orphans()
    }

    pub fn essence(&self, out: &mut StateKey) {
        out.word(&(self.orphans(), self.bypasses()));
        out.word(&(self.open, self.told, self.listed, self.refused, self.stale));
        out.word(&self.engine.must_list_again().is_some());
        out.number(self.shows_after);
        self.engine.essence(&NamespaceName::observed(NAMESPACE), self.now(), out);
        for feed in &self.feeds {
            out.word(&feed.len());
            for news in feed {
                news.essence(out);
            }
        }
        for number in [self.shown.last, self.shown.closed, Some(self.shown.appeared)] {
            out.number(number.unwrap_or_default());
        }
        self.shown.namespace.iter().for_each(|ns| ns.essence(out));
        self.shown.baseline.iter().for_each(|baseline| baseline.essence(out));
        for (name, (version, policy)) in &self.shown.policies {
            out.word(name);
            out.number(*version);
            if let Some(policy) = policy {
                policy.essence(*name, out);
            }
        }
        let Some(Running { job, ends, doubtful, steps }) = &self.job else { return };
        out.word(&(ends, doubtful, job.baseline.as_ref().map(|b| &b.policies[0].name)));
        out.word(&(job.closed.ingress, job.closed.egress));
        for (step, task) in steps.iter().zip(&job.tasks) {
            out.word(&(std::mem::discriminant(step), &task.drift.policy, task.drift.class));
            write(task, None).essence(out);
            if let Step::Answered(answer) = step {
                out.word(&std::mem::discriminant(answer));
                if let Answer::Stored(policy) = answer {
                    policy.essence(Name::of(&task.drift.policy), out);
                }
            }
        }
    }
}

/// Where each phase of the writes of a job ends. The tasks must be in order.
fn ends(job: &Job) -> Vec<usize> {
    let (mut results, mut ends) = (Vec::new(), Vec::new());
    while results.len() < job.tasks.len() {
        let phase = job.next_writes(&results);
        results.extend(phase.into_iter().map(|_| Ok(Wrote::Withheld)));
        ends.push(results.len());
    }
    ends
}

/// A uid of the model.
fn number(uid: &Uid) -> u64 {
    uid.to_string().parse().unwrap()
}

/// The request of a task.
fn write(task: &Task, broken: Option<Broken>) -> Write {
    let deed = match &task.drift.fix {
        Repair::Apply { uid: Some(uid), .. } if broken == Some(Broken::Recreates) => {
            Deed::Delete { uid: number(uid), version: u64::MAX }
        }
        Repair::Apply { .. } if broken == Some(Broken::AppliesByName) => Deed::Apply(None),
        Repair::Apply { uid, .. } => Deed::Apply(uid.as_ref().map(number)),
        Repair::Delete { uid, version } => Deed::Delete { uid: number(uid), version: *version },
        Repair::WaitForFinalizer => unreachable!("the engine hands out no task that only waits"),
        Repair::RemoveFinalizer { .. } => unreachable!("the owner of the model's finalizer cannot be told"),
    };
    Write { name: Name::of(&task.drift.policy), deed, repairs: task.drift.class != Class::Missing }
}
