//! A long random run. Namespaces, baselines and policies change, and tenants tamper. Instances are stopped and killed, and a second
//! instance comes and goes. Requests and events fail, admission and quotas refuse writes, and the API server restarts. Every half minute all of that stops, and the judge
//! checks the cluster. Then etcd is restored, or a CRD is rolled back, or components are switched off and on, and the judge checks again.
//!
//! `SOAK_SECONDS` sets the duration, `SOAK_SEED` repeats the random choices. Each turn has its own dice, made from the seed and the
//! turn's number. So the cluster's responses in one turn do not change the choices in the next. Without these variables it is the short
//! run with a fixed seed that CI makes.

mod guarded;
mod model;
mod obstacles;
mod opt_outs;
mod order;
mod others;
mod refusal;
mod seats;
mod shape;
mod upsets;
mod verdict;
mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use kube::Client;
use policy_baseline_e2e::{AuditMark, Dice, TIMEOUT, World, skipped_without_audit_log};
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::model::{Health, Model};
use self::refusal::Obstacle;
use self::seats::{Needs, Seat};
use self::shape::Place;
use crate::faults::PLACE;
use crate::judge::Judge;
use crate::scene::{apply_baseline, client_of, until_ready};
use crate::support::namespaces;

const SENTINEL: &str = "sentinel";
/// The settings of CI.
const CI: Settings = Settings { seed: 20_260_101, seconds: 180 };
const LEAST: u64 = 30;
const MOST: u64 = 24 * 60 * 60;

const NAMES: usize = 36;
/// The time between two turns.
const PACE: Duration = Duration::from_millis(150);
/// An instance repairs more slowly for a while after too many repairs of the same policy. So there are no fights shortly before the
/// end.
const NO_FIGHTS: Duration = Duration::from_secs(75);
/// The shortest time between two restarts of the API server. A test needs an API server that is there most of the time.
const RESTARTS: Duration = Duration::from_secs(45);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    seed: u64,
    seconds: u64,
}

impl Settings {
    fn of(seed: Option<&str>, seconds: Option<&str>) -> Result<Self, String> {
        let number = |name: &str, text: Option<&str>, default: u64, least: u64, most: u64| {
            let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(default) };
            let given = text.parse().ok().filter(|number| (least..=most).contains(number));
            given.ok_or_else(|| format!("{name} is a whole number from {least} to {most}, not {text:?}"))
        };
        Ok(Self {
            seed: number("SOAK_SEED", seed, CI.seed, 0, u64::MAX)?,
            seconds: number("SOAK_SECONDS", seconds, CI.seconds, LEAST, MOST)?,
        })
    }

    fn from_env() -> Self {
        let [seed, seconds] = ["SOAK_SEED", "SOAK_SECONDS"].map(|name| env::var(name).ok());
        Self::of(seed.as_deref(), seconds.as_deref()).unwrap_or_else(|message| panic!("{message}"))
    }
}

/// Prints how to repeat the run, if it fails.
struct Again(Settings);

impl Drop for Again {
    fn drop(&mut self) {
        if thread::panicking() {
            let Settings { seed, seconds } = self.0;
            eprintln!("the soak failed; the same choices again: make soak SOAK_SEED={seed} SOAK_SECONDS={seconds}");
        }
    }
}

pub struct Soak {
    // Dropped first, so that no instance outlives its world.
    /// The first instance is there all the time, the second comes and goes.
    seats: [Seat; 2],
    world: World,
    /// The judge's own client, directly to the API server. The tests change things through it too.
    client: Client,
    mark: AuditMark,
    settings: Settings,
    begun: Instant,
    beat: Interval,
    turn: u64,
    model: Model,
    judge: Judge,
    /// Policies that may later be other objects, although they were only edited. Since the last rest they were planned only part of the
    /// time, or another user may delete them.
    unsteady: BTreeSet<(String, String)>,
    /// Policies to which a tenant added a finalizer.
    held: BTreeSet<(String, String)>,
    /// What refuses writes of the operator now.
    obstacle: Option<Obstacle>,
    /// The addresses that the EndpointSlice of the API server does not name now, although it did.
    away: BTreeSet<IpAddr>,
    /// The addresses of the API server that the statuses named at the last rest. Only these survive a restart.
    told: BTreeSet<IpAddr>,
    /// The baselines that have allowed the API server ever since. The status of another baseline names no address.
    tellers: Vec<Place>,
    apiserver: Instant,
    /// How many times the cluster as a whole was upset.
    upsets: usize,
    done: BTreeMap<&'static str, u32>,
    /// How long each convergence took.
    converged: Vec<Duration>,
    /// The needs of the first instance at rest, at the time from which it is no longer restarted. None before that.
    before: Option<Needs>,
}

impl Soak {
    async fn new(settings: Settings) -> Self {
        let world = World::new().await.unwrap();
        world.discard();
        let client = client_of(world.plane().admin_kubeconfig()).await;
        let mark = world.audit().unwrap().mark();
        let mut beat = interval(PACE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seats = [Seat::new(&world, false).await, Seat::new(&world, true).await];
        let mut soak = Self {
            seats,
            world,
            client,
            mark,
            settings,
            begun: Instant::now(),
            beat,
            turn: 0,
            model: Model::default(),
            judge: Judge::default(),
            unsteady: BTreeSet::new(),
            held: BTreeSet::new(),
            obstacle: None,
            away: BTreeSet::new(),
            told: BTreeSet::new(),
            tellers: Vec::new(),
            apiserver: Instant::now(),
            upsets: 0,
            done: BTreeMap::new(),
            converged: Vec::new(),
            before: None,
        };
        let sentinel = json!({ "namespaceSelector": { "matchLabels": { PLACE: SENTINEL } } });
        apply_baseline(&soak.world, SENTINEL, &sentinel).await;
        soak.find_api().await;
        soak.begin().await;
        soak.seats[0].start(&soak.world);
        until_ready(&soak.world, SENTINEL).await;
        let mut dice = Dice::nth(settings.seed, u64::MAX);
        for name in all_names() {
            soak.make(&name, &mut dice).await;
        }
        soak
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn left(&self) -> Duration {
        Duration::from_secs(self.settings.seconds).saturating_sub(self.begun.elapsed())
    }

    async fn until_the_end(&mut self) {
        self.rest().await;
        while !self.left().is_zero() {
            let turns = 150 + Dice::nth(self.settings.seed, self.turn).below(100);
            for _ in 0..turns {
                if self.left().is_zero() {
                    break;
                }
                self.act().await;
            }
            self.rest().await;
            self.upset().await;
            self.rest().await;
            self.edit_guarded().await;
            self.rest().await;
            // In the second half the first instance is not restarted, so that leaks add up.
            if self.before.is_none() && self.left().as_secs() <= self.settings.seconds / 2 {
                self.before = Some(self.needs().await);
            }
        }
    }

    /// One turn.
    async fn act(&mut self) {
        self.beat.tick().await;
        self.turn += 1;
        self.let_opt_outs_end();
        self.end_obstacle().await;
        for seat in &mut self.seats {
            if seat.attend(&self.world, self.turn) {
                *self.done.entry("starts").or_default() += 1;
            }
        }
        let mut dice = Dice::nth(self.settings.seed, self.turn);
        let what = dice.below(1000);
        let name = &all_names()[dice.below(NAMES)];
        match what {
            ..25 => self.restart(&mut dice),
            25..65 => self.darken(&mut dice),
            65..70 => self.restart_apiserver(&mut dice).await,
            // A change in waves would pause.
            70..90 | 445..460 if self.obstacle.is_none() => self.edit_a_baseline(&mut dice).await,
            90..100 => self.turn_strict(&mut dice).await,
            _ if !self.model.places.contains_key(name) => self.make(name, &mut dice).await,
            100..150 => self.remove(name, &mut dice).await,
            150..210 => self.relabel(name, &mut dice).await,
            210..330 => self.own_policy(name, &mut dice).await,
            330..333 if self.left() > NO_FIGHTS => self.fight(name, &mut dice).await,
            333..345 => {
                let some = self.held.iter().take(2).cloned().collect::<Vec<_>>();
                self.let_go(some).await;
            }
            345..445 => self.opt_out(name, &mut dice).await,
            460..475 => self.obstruct(name, &mut dice).await,
            475..495 => self.forge(name, &mut dice).await,
            495..499 => self.add_dns().await,
            499..507 => self.move_api(&mut dice).await,
            _ => self.tamper(name, &mut dice).await,
        }
    }

    /// Ends an instance, or lets the second one start.
    fn restart(&mut self, dice: &mut Dice) {
        let (first, kills, later) = (dice.below(2) == 0, dice.below(2) == 0, dice.below(20) as u64);
        // A start far enough in the future leaves a time in which no instance runs.
        let first = first && self.before.is_none();
        let seat = &mut self.seats[usize::from(!first)];
        if seat.instance.is_none() {
            seat.again.get_or_insert(self.turn + later);
            return;
        }
        let (ended, what) = if kills { (seat.kill(), "SIGKILL") } else { (seat.stop(), "SIGTERM") };
        if !ended {
            return;
        }
        if first {
            seat.again = Some(self.turn + later);
        }
        self.count(what);
    }

    fn darken(&mut self, dice: &mut Dice) {
        let second = dice.below(2) == 0 && self.seats[1].instance.is_some();
        let seat = &mut self.seats[usize::from(second)];
        if seat.instance.is_some() && seat.sky.is_clear() {
            self.judge.hinder();
            seat.sky.darken(self.turn, dice);
            self.count("times of faults");
        }
    }

    async fn restart_apiserver(&mut self, dice: &mut Dice) {
        let kills = dice.below(2) == 0;
        if self.apiserver.elapsed() < RESTARTS {
            return;
        }
        self.judge.hinder();
        let plane = self.world.plane();
        if kills { plane.kill_apiserver() } else { plane.stop_apiserver() }.unwrap();
        plane.start_apiserver().await.unwrap();
        self.until_the_apiserver_answers().await;
        self.count("restarts of the apiserver");
    }

    async fn until_the_apiserver_answers(&mut self) {
        // Connections of the test must be made again too.
        let admin = async || {
            namespaces(&self.world).get("default").await?;
            kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(self.client.clone()).get("default").await.map(|_| true)
        };
        self.world.eventually("the apiserver answers again", TIMEOUT, admin).await.unwrap();
        self.apiserver = Instant::now();
    }

    /// Brings everything to a quiet state: no opt-out ends soon, no faults, no held policies, every baseline valid.
    async fn calm(&mut self) {
        self.let_near_opt_outs_end().await;
        self.remove_obstacle().await;
        for at in 0..self.seats.len() {
            self.seats[at].sky.clear();
            if at == 0 && self.seats[at].instance.is_none() {
                self.seats[at].start(&self.world);
                self.count("starts");
            }
        }
        self.let_all_go().await;
        if self.model.health != Health::Valid {
            self.check_the_other_baseline().await;
            // Always makes it valid again, whatever the dice say.
            self.turn_strict(&mut Dice::nth(self.settings.seed, self.turn)).await;
        }
    }
}

fn all_names() -> Vec<String> {
    (0..NAMES).map(|n| format!("soak-{n:02}")).collect()
}

#[tokio::test]
async fn what_happens_at_random_for_minutes_leaves_i1_to_i6_intact_and_nothing_behind() {
    let settings = Settings::from_env();
    if skipped_without_audit_log() {
        return;
    }
    println!("SOAK_SEED={} SOAK_SECONDS={}", settings.seed, settings.seconds);
    let _again = Again(settings);
    let mut soak = Soak::new(settings).await;
    soak.until_the_end().await;
    soak.finish().await;
}

#[test]
fn a_setting_that_is_none_is_told_in_one_sentence_and_an_empty_one_is_left_out() {
    let told = |seed, seconds| Settings::of(seed, seconds).unwrap_err();
    assert_eq!(told(Some("x"), None), "SOAK_SEED is a whole number from 0 to 18446744073709551615, not \"x\"");
    assert_eq!(told(None, Some("10m")), "SOAK_SECONDS is a whole number from 30 to 86400, not \"10m\"");
    assert_eq!(told(None, Some("0")), "SOAK_SECONDS is a whole number from 30 to 86400, not \"0\"");
    assert_eq!(Settings::of(Some(""), None), Ok(CI));
    assert_eq!(Settings::of(Some("7"), Some("60")), Ok(Settings { seed: 7, seconds: 60 }));
}
