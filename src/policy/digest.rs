//! Digests: SHA-256 cut to 128 bits. A tenant must not be able to craft two specs with the same digest,
//! because the operator would then miss a change of a policy. A weaker hash is not enough.
//! The algorithm must not change between releases: ids and plan hashes are stored in the cluster.

use std::{fmt, io::BufWriter};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// JSON is written in pieces of a few bytes. So many bytes are hashed together.
const BUFFER: usize = 1024;

/// The first 128 bits of a SHA-256 hash.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Digest(u128);

impl Digest {
    /// Stands for "no input". No text and no value has this digest.
    pub const NONE: Self = Self(0);

    /// The digest of a list of texts. The length of each text is hashed before the text, so different lists give different digests.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        Self::cut(hash)
    }

    /// The digest of the JSON of a value. The value must serialise the same way every time: it must not contain hash maps.
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut hash = Sha256::new();
        // Writing to a hash cannot fail, and the types that are hashed here have only string keys.
        let _ = serde_json::to_writer(BufWriter::with_capacity(BUFFER, DigestWriter(&mut hash)), value);
        Self::cut(hash)
    }

    /// A number from 0 to 1. It is spread evenly like a random number, but the same digest always gives the same number.
    #[expect(clippy::cast_precision_loss, reason = "a spread needs no precision")]
    pub fn fraction(self) -> f64 {
        (self.0 >> 96) as f64 / f64::from(u32::MAX)
    }

    fn cut(hash: Sha256) -> Self {
        let bytes = hash.finalize();
        Self(bytes.iter().take(16).fold(0, |n, b| n << 8 | u128::from(*b)))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct DigestWriter<'a>(&'a mut Sha256);

impl std::io::Write for DigestWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_text_never_changes_between_releases() {
        assert_eq!(Digest::of_texts(["team-a", "baseline-default-deny-ingress"]).to_string(), "476647ee137a42dc115ab556617b0639");
    }

    #[test]
    fn where_one_text_ends_matters() {
        assert_ne!(Digest::of_texts(["ab", "c"]), Digest::of_texts(["a", "bc"]));
        assert_ne!(Digest::of_texts(["ab"]), Digest::of_texts(["ab", ""]));
    }

    #[test]
    fn json_digests_tell_values_apart() {
        assert_eq!(Digest::of_json(&[1, 2]), Digest::of_json(&vec![1, 2]));
        assert_ne!(Digest::of_json(&[1, 2]), Digest::of_json(&[2, 1]));
    }
}
