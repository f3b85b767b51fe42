//! Conversions of the numbers and times in API objects.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The resourceVersion as a number; 0 if it is absent or not a number.
pub fn resource_version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Cuts a time to whole seconds. The API stores no fractions, so a finer time would differ after a round trip.
pub fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_version_that_is_no_number_is_older_than_all() {
        assert_eq!([Some("7"), Some("x"), None].map(resource_version), [7, 0, 0]);
    }
}
