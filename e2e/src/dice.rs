//! Choices that can be repeated.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Xorshift: the choice must be the same for the same seed, and nothing more.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Dice of its own for the n-th of many choices: how often the others were thrown shifts nothing.
    pub fn nth(seed: u64, n: u64) -> Self {
        // The mixer of SplitMix64: neighbours must not look alike.
        let mut mixed = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::of(mixed ^ (mixed >> 31))
    }

    /// The seed is that of `E2E_SEED`, else another each time; it is printed.
    pub fn from_env() -> Self {
        let chosen = env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = chosen.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        println!("E2E_SEED={seed}");
        Self::of(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % bound.max(1) as u64).unwrap_or_default()
    }

    pub fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from)) as u64)
    }

    /// One of these, of which there is at least one.
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
        // Of 600 throws of a thousand faces some 450 differ.
        assert!((400..500).contains(&all.len()), "{}", all.len());
    }
}
