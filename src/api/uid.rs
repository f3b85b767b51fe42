//! The uid of an object, in 16 bytes.

use std::{fmt, num::NonZeroU64, sync::Arc};

/// Identifies an object for as long as it exists.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Uid(UidForm);

#[derive(Clone, Eq, Hash, PartialEq)]
enum UidForm {
    /// The usual form of a uid: 32 lower-case hexadecimal digits in five groups. The first 16 of them are not all 0. So a 0 there can stand
    /// for the other form, which then needs no room beside this one.
    Uuid(NonZeroU64, u64),
    /// Any other text.
    Text(Arc<String>),
}

/// The positions of the dashes in the usual form.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(parse(text).unwrap_or_else(|| UidForm::Text(Arc::new(text.to_owned()))))
    }
}

fn parse(text: &str) -> Option<UidForm> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || DASHES.iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut digits = bytes.iter().enumerate().filter(|(at, _)| !DASHES.contains(at)).map(|(_, byte)| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    });
    let mut half = || (0..16).try_fold(0, |number, _| Some(number << 4 | u64::from(digits.next()??)));
    Some(UidForm::Uuid(NonZeroU64::new(half()?)?, half()?))
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UidForm::Uuid(first, last) => {
                let first = first.get();
                write!(f, "{:08x}-{:04x}-{:04x}-", first >> 32, first >> 16 & 0xffff, first & 0xffff)?;
                write!(f, "{:04x}-{:012x}", last >> 48, last & 0xffff_ffff_ffff)
            }
            UidForm::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uid_is_written_as_it_was_read() {
        let uuid = "0f9e8d7c-6b5a-4321-8765-00ffabcdef12";
        assert!(matches!(Uid::from(uuid).0, UidForm::Uuid(..)));
        let others = [
            "",
            "u",
            "00000000-0000-0000-8765-00ffabcdef12",
            "00000000-0000-0001-0000-000000000000",
            "0F9E8D7C-6B5A-4321-8765-00FFABCDEF12",
            "0f9e8d7c-6b5a-4321-8765-00ffabcdef1",
            "é".repeat(18).as_str(),
        ]
        .map(ToOwned::to_owned);
        for text in others.iter().map(String::as_str).chain([uuid]) {
            assert_eq!(Uid::from(text).to_string(), text);
            assert_eq!(Uid::from(text), Uid::from(text));
        }
        assert_ne!(Uid::from(uuid), Uid::from("0f9e8d7c-6b5a-4321-8765-00ffabcdef13"));
        assert_eq!(size_of::<Uid>(), 16);
    }
}
