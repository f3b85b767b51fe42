//! Parsing of durations in specs.

use jiff::SignedDuration;

/// Parses whole hours, minutes and seconds, as in 1h30m, like the pattern of the CRD, but in any order. `None` if malformed.
pub fn duration(text: &str) -> Option<SignedDuration> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b"hms".contains(&b)) {
        return None;
    }
    let mut parts = text.split_inclusive(|c: char| c.is_ascii_alphabetic()).map(|part| part.parse::<SignedDuration>().ok());
    parts.try_fold(SignedDuration::ZERO, |sum, part| sum.checked_add(part?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them_but_for_fractions() {
        for (text, seconds) in [("720h", 2_592_000), ("1h30m", 5_400), ("720h0m0s", 2_592_000), ("45s", 45), ("0h1s", 1)] {
            assert_eq!(duration(text), Some(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "h",
            "30d",
            "1.5h",
            "-1h",
            "1",
            "1h30",
            " 1h",
            "1h ",
            "1 h",
            "é",
            "99999999999999999999h",
            "9223372036854775807h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
