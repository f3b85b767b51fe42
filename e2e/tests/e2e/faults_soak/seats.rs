//! The instances: one that is always there, and one that comes and goes. Each has its own connection to the API server. Each has its
//! own name there from its start to its end.

use std::path::PathBuf;
use std::time::Duration;

use policy_baseline_e2e::{Operator, TIMEOUT, World};

use super::weather::Sky;
use crate::admin_port::{address_of, get, metric};
use crate::faults::DURATION;
use crate::faults_storms::resident;
use crate::judge::check_failures;

pub struct Instance {
    pub name: String,
    pub operator: Operator,
}

/// The resources of an instance at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub name: String,
    /// In MB.
    pub memory: u64,
    pub tasks: u64,
}

pub struct Seat {
    // Dropped first, before the proxy that it uses.
    pub instance: Option<Instance>,
    pub sky: Sky,
    kubeconfig: PathBuf,
    /// The turn in which an instance starts here. None if none is planned.
    pub again: Option<u64>,
    /// The waves that ended instances of this seat began.
    waves: usize,
}

impl Seat {
    pub async fn new(world: &World, pages: bool) -> Self {
        let sky = Sky::new(world.plane(), pages);
        let kubeconfig = sky.proxy.kubeconfig(&world.operator_kubeconfig().await.unwrap()).unwrap();
        Self { instance: None, sky, kubeconfig, again: None, waves: 0 }
    }

    pub fn start(&mut self, world: &World) {
        let name = World::unique("instance");
        self.sky.proxy.call(&name);
        let operator = Operator::start(world.plane(), &self.kubeconfig, &[DURATION], &[("POD_NAME", &name)]).unwrap();
        self.instance = Some(Instance { name, operator });
        self.again = None;
    }

    /// Continues the current episode of faults, and starts an instance if it is time. Returns whether it started one. Panics if an
    /// instance has ended by itself.
    pub fn attend(&mut self, world: &World, turn: u64) -> bool {
        self.sky.attend(turn, self.instance.is_some());
        if let Some(instance) = &mut self.instance {
            let ended = instance.operator.wait_exit(Duration::ZERO).unwrap();
            assert_eq!(ended, None, "{} ended by itself:\n{}", instance.name, instance.operator.log_tail(40));
        }
        let starts = self.instance.is_none() && self.again.is_some_and(|again| turn >= again);
        if starts {
            self.start(world);
        }
        starts
    }

    /// Sends SIGTERM and checks that it shuts down in order. Returns false if there is no instance to stop.
    pub fn stop(&mut self) -> bool {
        // Before it has installed its signal handlers, a signal ends it at once.
        let Some(mut instance) = self.instance.take_if(|instance| instance.operator.log().contains("policy-baseline starts"))
        else {
            return false;
        };
        let code = instance.operator.stop().unwrap();
        assert_eq!(code, 0, "{}:\n{}", instance.name, instance.operator.log_tail(40));
        instance.check_log();
        self.waves += instance.waves();
        true
    }

    /// Sends SIGKILL. Returns false if there is no instance.
    pub fn kill(&mut self) -> bool {
        let Some(mut instance) = self.instance.take() else { return false };
        instance.operator.kill().unwrap();
        instance.check_log();
        self.waves += instance.waves();
        true
    }

    /// The number of waves that began here.
    pub fn waves(&self) -> usize {
        self.waves + self.instance.as_ref().map_or(0, Instance::waves)
    }
}

impl Instance {
    /// Checks the log: no errors, no panics, and no complaint about something that is not a failure.
    pub fn check_log(&self) {
        let log = self.operator.log();
        let broken: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).collect();
        assert!(broken.is_empty(), "{}: {broken:#?}", self.name);
        check_failures(log.lines().filter(|line| line.contains("write failed")));
    }

    fn waves(&self) -> usize {
        self.operator.log().matches("a wave of the rollout begins").count()
    }

    pub async fn until_at_work(&self, world: &World) {
        let listed = async || self.operator.log().contains("work begins");
        world.eventually(&format!("{} has listed everything", self.name), TIMEOUT, listed).await.unwrap();
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it counts")]
    pub async fn needs(&self, world: &World) -> Needs {
        let address = address_of(world, &self.operator).await;
        let tasks = metric(&get(&address, "/metrics").2, "policy_baseline_tasks") as u64;
        Needs { name: self.name.clone(), memory: resident(self.operator.pid()), tasks }
    }
}
