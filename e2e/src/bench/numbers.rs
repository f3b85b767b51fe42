//! Statistics of samples: quantiles, medians, ratios, growth. No clock, no I/O.

/// The smallest sample such that at least this share of the samples is not larger. 0 without samples.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "few samples")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// The median: the middle sample, or the mean of the two middle samples.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The ratio of `ours` to `raw`. None if `raw` is not above zero.
pub fn ratio(ours: f64, raw: f64) -> Option<f64> {
    (raw > 0.0).then(|| ours / raw)
}

/// A summary of the ratios of pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
    /// The number of pairs.
    pub pairs: usize,
}

/// Pairs the first samples of both sides, then the second ones, and so on. Leaves out pairs that cannot be compared. None if no pair is
/// left.
pub fn of_pairs(ours: &[f64], raw: &[f64]) -> Option<Spread> {
    let ratios: Vec<f64> =
        ours.iter().zip(raw).filter(|(ours, _)| **ours > 0.0).filter_map(|(ours, raw)| ratio(*ours, *raw)).collect();
    let lowest = ratios.iter().copied().min_by(f64::total_cmp)?;
    let highest = ratios.iter().copied().max_by(f64::total_cmp)?;
    Some(Spread { median: median(&ratios), lowest, highest, pairs: ratios.len() })
}

/// The power of N with which a value grows from one size to another. 1 means linear growth, 0 means no growth.
pub fn exponent(small: (usize, f64), large: (usize, f64)) -> Option<f64> {
    let known = small.0 > 0 && large.0 > small.0 && small.1 > 0.0 && large.1 > 0.0;
    known.then(|| (large.1 / small.1).ln() / (count(large.0) / count(small.0)).ln())
}

/// The growth for each additional namespace.
pub fn slope(small: (usize, f64), large: (usize, f64)) -> Option<f64> {
    (large.0 > small.0).then(|| (large.1 - small.1) / count(large.0 - small.0))
}

/// A count as a floating-point number, for calculations.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub const fn count(n: usize) -> f64 {
    n as f64
}

/// Bytes as megabytes of 10^6.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub const fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn close(found: f64, want: f64) {
        assert!((found - want).abs() < 1e-9, "{found} is not {want}");
    }

    #[test]
    fn a_quantile_is_one_of_the_samples() {
        let hundred: Vec<f64> = (1..=100).rev().map(count).collect();
        close(quantile(&hundred, 0.5), 50.0);
        close(quantile(&hundred, 0.99), 99.0);
        close(quantile(&hundred, 1.0), 100.0);
        close(quantile(&[7.0], 0.01), 7.0);
        close(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        close(median(&[3.0, 1.0, 2.0]), 2.0);
        close(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        close(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_needs_something_to_compare_with() {
        close(ratio(3.0, 2.0).unwrap(), 1.5);
        assert_eq!(ratio(3.0, 0.0), None);
    }

    #[test]
    fn a_pair_is_compared_with_nothing_but_itself() {
        // The machine is ten times as slow during one pair. That slows down both sides of the pair, so the ratio stays the same.
        let spread = of_pairs(&[2.0, 30.0, 1.0, 4.0, 9.0], &[1.0, 20.0, 2.0, 2.0, 9.0]).unwrap();
        close(spread.median, 1.5);
        close(spread.lowest, 0.5);
        close(spread.highest, 2.0);
        assert_eq!(spread.pairs, 5);
    }

    #[test]
    fn one_pair_that_was_disturbed_moves_no_median() {
        let spread = of_pairs(&[1.0, 1.0, 100.0], &[1.0, 1.0, 1.0]).unwrap();
        close(spread.median, 1.0);
        close(spread.highest, 100.0);
    }

    #[test]
    fn a_side_that_is_missing_or_zero_makes_no_pair() {
        assert_eq!(of_pairs(&[], &[]), None);
        assert_eq!(of_pairs(&[1.0], &[]), None);
        assert_eq!(of_pairs(&[1.0, 0.0], &[0.0, 1.0]), None);
        assert_eq!(of_pairs(&[3.0, 1.0, 5.0], &[2.0]).unwrap().pairs, 1);
    }

    #[test]
    fn growth_is_one_when_linear_and_two_when_quadratic() {
        close(exponent((100, 5.0), (1000, 50.0)).unwrap(), 1.0);
        close(exponent((100, 5.0), (1000, 500.0)).unwrap(), 2.0);
        close(exponent((100, 5.0), (1000, 5.0)).unwrap(), 0.0);
        assert_eq!(exponent((100, 0.0), (1000, 5.0)), None);
        assert_eq!(exponent((100, 1.0), (100, 5.0)), None);
        close(slope((100, 5.0), (1100, 25.0)).unwrap(), 0.02);
        assert_eq!(slope((100, 5.0), (100, 5.0)), None);
    }
}
