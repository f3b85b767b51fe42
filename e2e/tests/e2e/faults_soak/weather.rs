//! Faults between one instance and the API server: one kind of fault at a time, for some seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use policy_baseline_e2e::proxy::{Asked, EventFault, Fault, Moment, Verb, When};
use policy_baseline_e2e::{ControlPlane, Dice, Proxy};
use serde_json::Value;

use crate::faults_watches::{CODES, expire_watches_of};
use crate::faults_writes::{is_anything, is_write};

/// The resources that every instance watches all the time and that change in this test.
const WATCHED: [&str; 5] = ["namespaces", "networkpolicies", "policybaselines", "baselineoptouts", "controllerrevisions"];

fn is_watched(asked: &Asked) -> bool {
    WATCHED.iter().any(|resource| asked.is_of(resource))
}

fn is_list(asked: &Asked) -> bool {
    (asked.verb == Verb::List || asked.streams_a_list) && is_watched(asked)
}

fn any_event(asked: &Asked, _: &Value) -> bool {
    is_watched(asked)
}

fn expire_watches(proxy: &Proxy) {
    expire_watches_of(proxy, &WATCHED);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Writes are refused before they take effect.
    WritesRefused,
    /// Writes take effect, but the response says that they failed, or is cut short.
    WritesDenied,
    /// Connections are cut during writes.
    WritesCut,
    /// Every request is delayed.
    RequestsLate,
    /// Some requests fail, in various ways.
    RequestsFail,
    EventsLate,
    /// Watches end in the middle of an event, or expire.
    WatchesEnd,
    /// Events are lost, until the watches expire.
    EventsLost,
    /// Lists fail, or are cut short.
    ListsFail,
    /// The ends of streaming lists are lost.
    ListsNeverEnd,
    /// Lists show an earlier state.
    ListsOld,
    /// Renewals of the Lease fail.
    LeaseFails,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::WritesRefused,
        Self::WritesDenied,
        Self::WritesCut,
        Self::RequestsLate,
        Self::RequestsFail,
        Self::EventsLate,
        Self::WatchesEnd,
        Self::EventsLost,
        Self::ListsFail,
        Self::ListsNeverEnd,
        Self::ListsOld,
        Self::LeaseFails,
    ];
}

enum Stage {
    /// The proxy remembers lists, to serve them again later.
    Remembers,
    Blows,
    /// Everything is listed again. The number of struck faults when this stage began; it ends when each watched resource has been
    /// struck once more.
    Relists(usize),
}

struct Episode {
    kind: Kind,
    /// The turn in which it ends, and the turn in which the old lists are served.
    until: u64,
    middle: u64,
    stage: Stage,
    before: usize,
}

/// The connection of one instance to the API server.
pub struct Sky {
    pub proxy: Proxy,
    /// Whether lists come in pages, as from an API server without streaming lists. Only such lists can be old.
    pages: bool,
    episode: Option<Episode>,
    /// The kinds that are still to come. Each kind comes once before any kind comes again.
    to_come: Vec<Kind>,
    /// How many times the faults of each kind have struck.
    pub struck: BTreeMap<Kind, usize>,
}

impl Sky {
    pub fn new(plane: &ControlPlane, pages: bool) -> Self {
        let proxy = Proxy::start(plane).unwrap();
        if pages {
            proxy.know_no_streams();
        }
        Self { proxy, pages, episode: None, to_come: Vec::new(), struck: BTreeMap::new() }
    }

    pub fn is_clear(&self) -> bool {
        self.episode.is_none()
    }

    /// Begins an episode in this turn.
    pub fn darken(&mut self, turn: u64, dice: &mut Dice) {
        if self.to_come.is_empty() {
            let fits = |kind: &Kind| match kind {
                Kind::ListsOld => self.pages,
                Kind::ListsNeverEnd => !self.pages,
                _ => true,
            };
            self.to_come.extend(Kind::ALL.into_iter().filter(fits));
        }
        let kind = self.to_come.swap_remove(dice.below(self.to_come.len()));
        let length = 15 + dice.below(30) as u64;
        // Long enough to lose the Lease.
        let length = if kind == Kind::LeaseFails { 35 } else { length };
        let before = self.proxy.struck();
        let stage = if kind == Kind::ListsOld { Stage::Remembers } else { Stage::Blows };
        self.strike(kind, dice);
        self.episode = Some(Episode { kind, until: turn + length, middle: turn + length / 2, stage, before });
    }

    fn strike(&self, kind: Kind, dice: &mut Dice) {
        let proxy = &self.proxy;
        let mut often = |percent: usize| When::Percent(percent, Dice::of(dice.below(usize::MAX) as u64));
        match kind {
            Kind::WritesRefused => {
                for code in [409, 410, 429, 500, 503] {
                    proxy.on(is_write, often(10), Fault::Answer(code, Moment::Before));
                }
            }
            Kind::WritesDenied => {
                for fault in [Fault::Answer(500, Moment::After), Fault::Answer(504, Moment::After), Fault::Truncate] {
                    proxy.on(is_write, often(20), fault);
                }
            }
            Kind::WritesCut => {
                for moment in [Moment::Before, Moment::After] {
                    proxy.on(is_write, often(15), Fault::Cut(moment));
                }
                proxy.cut_connections();
            }
            Kind::RequestsLate => proxy.on(is_anything, When::Always, Fault::Delay(dice.millis(20, 300))),
            Kind::RequestsFail => {
                // A watch does not end, and some of these faults wait for the end of the response.
                let about = |asked: &Asked| !asked.is_of("") && asked.verb != Verb::Watch;
                let mut kinds = vec![Fault::Delay(Duration::from_millis(300)), Fault::Truncate];
                for moment in [Moment::Before, Moment::After] {
                    kinds.push(Fault::Cut(moment));
                    kinds.extend([409, 429, 500, 503, 504].map(|code| Fault::Answer(code, moment)));
                }
                for kind in kinds {
                    proxy.on(about, often(2), kind);
                }
            }
            Kind::EventsLate => {
                let when = often(50);
                proxy.on_event(any_event, when, EventFault::Delay(dice.millis(20, 200)));
            }
            Kind::WatchesEnd => {
                proxy.on_event(any_event, When::First(3), EventFault::Cut);
                proxy.on_event(any_event, When::First(3), EventFault::Expire);
            }
            Kind::EventsLost => {
                // The bookmark ends a streaming list. Without it the list never ends, and that would be another fault.
                let about = |asked: &Asked, event: &Value| any_event(asked, event) && event["type"] != "BOOKMARK";
                proxy.on_event(about, often(30), EventFault::Lose);
            }
            Kind::ListsFail => {
                let code = dice.pick(&CODES);
                let faults = [Fault::Answer(code, Moment::Before), Fault::Cut(Moment::Before), Fault::Truncate];
                // A client reads a stream event by event, so `Truncate`, which waits for the whole response, does not fit.
                let fault = dice.pick(if self.pages { &faults[..] } else { &faults[..2] });
                proxy.on(is_list, When::First(3), fault);
                expire_watches(proxy);
            }
            Kind::ListsNeverEnd => {
                let ends = |asked: &Asked, event: &Value| any_event(asked, event) && event["type"] == "BOOKMARK";
                proxy.on_event(ends, When::Always, EventFault::Lose);
                expire_watches(proxy);
            }
            Kind::ListsOld => {
                proxy.remember_lists();
                expire_watches(proxy);
            }
            Kind::LeaseFails => {
                proxy.on(|asked| asked.is_of("leases"), When::Always, Fault::Answer(503, Moment::Before));
                // The client sends a write again a second after a 429. It must not do that once the term of the Lease is over.
                proxy.on(is_write, often(70), Fault::Answer(429, Moment::Before));
            }
        }
    }

    /// Continues the episode. `inhabited`: whether an instance is there.
    pub fn attend(&mut self, turn: u64, inhabited: bool) {
        let Some(episode) = &mut self.episode else { return };
        match episode.stage {
            Stage::Remembers if turn >= episode.middle && self.proxy.remembers(WATCHED.len()) => {
                self.proxy.calm();
                for resource in WATCHED {
                    let about = move |asked: &Asked| is_list(asked) && asked.is_of(resource);
                    self.proxy.on(about, When::Nth(1), Fault::Stale);
                }
                expire_watches(&self.proxy);
                episode.stage = Stage::Blows;
            }
            Stage::Remembers | Stage::Blows if turn >= episode.until => self.clear(),
            Stage::Relists(from) if !inhabited || self.proxy.struck() >= from + WATCHED.len() => {
                self.proxy.calm();
                self.count();
            }
            Stage::Remembers | Stage::Blows | Stage::Relists(_) => {}
        }
    }

    /// Begins the end of the episode. If events were lost, everything is listed again.
    pub fn clear(&mut self) {
        let Some(episode) = &mut self.episode else { return };
        if matches!(episode.stage, Stage::Relists(_)) {
            return;
        }
        self.proxy.calm();
        if episode.kind == Kind::EventsLost {
            episode.stage = Stage::Relists(self.proxy.struck());
            expire_watches(&self.proxy);
        } else {
            self.count();
        }
    }

    fn count(&mut self) {
        if let Some(Episode { kind, before, .. }) = self.episode.take() {
            *self.struck.entry(kind).or_default() += self.proxy.struck() - before;
        }
    }
}
