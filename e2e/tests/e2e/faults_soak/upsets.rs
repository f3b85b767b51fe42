//! What happens to the cluster as a whole, at a rest: nothing else changes meanwhile, and afterwards everything must be as before.

use policy_baseline_e2e::TIMEOUT;

use super::Soak;
use crate::crd_rollback::{LACKS, replace, roll_back};
use crate::restore::{Backup, How, WENT_BACK};

/// Components that only warn, so that they refuse nothing that the soak does.
const COMPONENTS: [&str; 2] = ["manifests/components/label-hygiene", "manifests/components/sane-policies"];

impl Soak {
    /// One upset. Each kind comes in its turn.
    pub async fn upset(&mut self) {
        self.judge.hinder();
        let number = self.upsets;
        self.upsets += 1;
        match number % 4 {
            0 => self.restore_etcd(How::Plain).await,
            1 => self.roll_a_crd_back().await,
            2 => self.restore_etcd(How::Bumped).await,
            _ => self.switch_components(),
        }
    }

    /// How many times each instance has logged a text.
    fn told(&self, text: &str) -> Vec<usize> {
        let instances = self.seats.iter().filter_map(|seat| seat.instance.as_ref());
        instances.map(|instance| instance.operator.log().matches(text).count()).collect()
    }

    async fn until_every_instance_tells(&self, text: &str, before: &[usize]) {
        let tells = async || self.told(text).iter().zip(before).all(|(now, before)| now > before);
        self.world.eventually(&format!("every instance tells: {text}"), TIMEOUT, tells).await.unwrap();
    }

    async fn restore_etcd(&mut self, how: How) {
        let before = self.told(WENT_BACK);
        let backup = Backup::take(&self.world).await;
        self.until_the_apiserver_answers().await;
        // The Lease must have another version than in the backup.
        self.needs().await;
        backup.restore(&self.world, how).await;
        self.until_the_apiserver_answers().await;
        self.until_every_instance_tells(WENT_BACK, &before).await;
        self.count("restores of etcd");
    }

    async fn roll_a_crd_back(&mut self) {
        let before = self.told(LACKS);
        let whole = roll_back(&self.world).await;
        self.until_every_instance_tells(LACKS, &before).await;
        replace(&self.world, &serde_json::to_value(whole).unwrap()).await;
        self.count("CRDs rolled back and forward");
    }

    fn switch_components(&mut self) {
        for component in COMPONENTS {
            for action in ["apply", "delete", "apply", "delete"] {
                self.world.plane().run_kubectl(&[action, "-k", component]).unwrap();
            }
        }
        self.count("components switched off and on");
    }
}
