//! Random choices that can be repeated.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use fastrand::Rng;

/// Random numbers. The same seed gives the same choices.
#[derive(Debug, Clone)]
pub struct Dice(Rng);

impl Dice {
    pub fn of(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// Separate dice for the n-th of many choices. How often the other dice were used has no influence on these.
    pub fn nth(seed: u64, n: u64) -> Self {
        // Neighbouring numbers must give different results. The generator mixes inputs that differ in few bits.
        Self::of(Rng::with_seed(seed).u64(..) ^ n)
    }

    /// Takes the seed from `E2E_SEED`, or else a new one each time. Prints the seed.
    pub fn from_env() -> Self {
        let chosen = env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = chosen.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        println!("E2E_SEED={seed}");
        Self::of(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound.max(1))
    }

    pub fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from)) as u64)
    }

    /// One of these values. There must be at least one.
    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_of_a_turn_are_the_same_each_time_and_unlike_their_neighbours() {
        let thrown = |seed, n| Dice::nth(seed, n).below(1000);
        let of = |seed| (0..300).map(|n| thrown(seed, n)).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        let mut all: Vec<usize> = of(1).into_iter().chain(of(2)).collect();
        all.sort_unstable();
        all.dedup();
        // 600 throws of a die with a thousand faces give about 450 different numbers.
        assert!((400..500).contains(&all.len()), "{}", all.len());
    }
}
