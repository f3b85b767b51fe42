//! How figures grow from the smallest size to the largest.

use super::figures::Point;
use super::numbers::{exponent, median, slope};

/// Computes one figure from the measurements of one size.
pub type Figure = fn(&Point) -> f64;

/// The figures that are shown at every size: the key, the name, and the function that computes the figure.
pub const GROWING: [(&str, &str, Figure); 14] = [
    ("first_policies_p50", "1. new namespace, p50, ms", |point| point.first_policies.quantile(0.5).ours),
    ("first_policies_p99", "1. new namespace, p99, ms", |point| point.first_policies.quantile(0.99).ours),
    ("burst_all", "2. all new, ms", |point| median(&point.whole.burst)),
    ("restore_all", "3. all deleted, ms", |point| median(&point.whole.restore)),
    ("repair_p50", "4. repair, p50, ms", |point| point.repair.quantile(0.5).ours),
    ("repair_p99", "4. repair, p99, ms", |point| point.repair.quantile(0.99).ours),
    ("edit_all", "5. edit of all, ms", |point| median(&point.whole.edit)),
    ("cold_start", "6. cold start, ms", |point| point.cold_start.median().ours),
    ("rss_start", "7. resident after start, MB", |point| median(&point.resident_start)),
    ("rss_rest", "7. resident at rest, MB", Point::resident_rest),
    ("rss_peak", "7. resident at the peak, MB", |point| median(&point.resident_peak)),
    ("rss_rest_services", "9. at rest with Services, MB", |point| of(point.with_services.as_deref(), Point::resident_rest)),
    ("rss_rest_allows", "9. at rest with allows, MB", |point| of(point.with_allows.as_deref(), Point::resident_rest)),
    ("cold_start_allows", "9. cold start with allows, ms", |point| {
        of(point.with_allows.as_deref(), |more| more.cold_start.median().ours)
    }),
];

fn of(point: Option<&Point>, figure: Figure) -> f64 {
    point.map_or(0.0, figure)
}

#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// The power of N: 1 means linear growth.
    pub exponent: Option<f64>,
    /// The growth for each additional namespace.
    pub slope: Option<f64>,
}

impl Growth {
    pub fn of(points: &[Point], value: impl Fn(&Point) -> f64) -> Self {
        let at = |point: Option<&Point>| point.map_or((0, 0.0), |point| (point.namespaces, value(point)));
        let (small, large) = (at(points.first()), at(points.last()));
        Self { exponent: exponent(small, large), slope: slope(small, large) }
    }
}
