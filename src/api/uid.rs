//! The uid of an object, in a third of the memory of its text.

use std::fmt;

/// Identifies an object for as long as it exists.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Uid(UidForm);

#[derive(Clone, Eq, Hash, PartialEq)]
enum UidForm {
    /// The usual form of a uid: 32 lower-case hexadecimal digits in five groups.
    Uuid([u8; 16]),
    /// Any other text.
    Text(Box<str>),
}

/// The positions of the dashes in the usual form.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(parse(text).map_or_else(|| UidForm::Text(text.into()), UidForm::Uuid))
    }
}

fn parse(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || DASHES.iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut digits = bytes.iter().enumerate().filter(|(at, _)| !DASHES.contains(at)).map(|(_, byte)| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    });
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    Some(uuid)
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UidForm::Uuid(uuid) => uuid.iter().enumerate().try_for_each(|(at, byte)| {
                let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                write!(f, "{dash}{byte:02x}")
            }),
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
        assert!(matches!(Uid::from(uuid).0, UidForm::Uuid(_)));
        let others =
            ["", "u", "0F9E8D7C-6B5A-4321-8765-00FFABCDEF12", "0f9e8d7c-6b5a-4321-8765-00ffabcdef1", "é".repeat(18).as_str()]
                .map(ToOwned::to_owned);
        for text in others.iter().map(String::as_str).chain([uuid]) {
            assert_eq!(Uid::from(text).to_string(), text);
            assert_eq!(Uid::from(text), Uid::from(text));
        }
        assert_ne!(Uid::from(uuid), Uid::from("0f9e8d7c-6b5a-4321-8765-00ffabcdef13"));
    }
}
