//! Text that others wrote, as the operator shows it: nothing in it can move the cursor, change the direction of the line, or hide.

use std::borrow::Cow;

/// The characters that show nothing by themselves, but can change how the text around them is shown, or make two different texts look the
/// same: control characters, line ends, marks of direction, zero-width characters and blank letters, as ranges. A space is none of them.
const INVISIBLE: [(char, char); 17] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// The rule of a CRD that refuses such characters in a text.
pub const IS_VISIBLE: &str = r"!self.matches(r'[\x{0}-\x{1f}\x{7f}-\x{9f}\x{ad}-\x{ad}\x{61c}-\x{61c}\x{115f}-\x{1160}\x{17b4}-\x{17b5}\x{180b}-\x{180f}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{2800}-\x{2800}\x{3164}-\x{3164}\x{feff}-\x{feff}\x{ffa0}-\x{ffa0}\x{fff0}-\x{fffb}\x{1d173}-\x{1d17a}\x{e0000}-\x{e0fff}]')";

/// What that rule says.
pub const WRITE_VISIBLE: &str =
    "write one line without control characters and invisible ones; in YAML, write >- instead of | before a text of several lines";

/// Whether a character is one of these.
fn is_invisible(c: char) -> bool {
    INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// The text in one line: ends of lines and tabs are spaces, and each other invisible character is its code, such as `\u{202e}`.
pub fn shown(text: &str) -> Cow<'_, str> {
    // Most texts are ASCII without control characters.
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) || !text.contains(is_invisible) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => out.push(' '),
            c if is_invisible(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.into()
}

/// The text as it is shown, with at most `most` characters. The last character of a cut text is `…`.
pub fn cut(text: &str, most: usize) -> String {
    let text = shown(text);
    if text.chars().count() <= most {
        return text.into_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_shows_that_it_was_cut() {
        assert_eq!(cut("ähm", 3), "ähm");
        assert_eq!(cut("ähms", 3), "äh…");
    }

    #[test]
    fn i16_what_moves_the_cursor_turns_the_line_or_hides_is_shown_by_its_code() {
        for plain in ["", "kübectl-édit-🦀", "名前 x", "Ready=True (\"a\\b\")", "e\u{301}", "❤\u{fe0f}"] {
            assert!(matches!(shown(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
        for (text, told) in [
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("ok\r\nReady=True", "ok  Ready=True"),
            ("a\u{7}\u{7f}\u{9b}b", "a\\u{7}\\u{7f}\\u{9b}b"),
            ("\u{202e}gnirts\u{202c}", "\\u{202e}gnirts\\u{202c}"),
            ("ad\u{200b}min\u{2060}\u{feff}", "ad\\u{200b}min\\u{2060}\\u{feff}"),
            ("\u{3164}\u{2800}\u{e0041}", "\\u{3164}\\u{2800}\\u{e0041}"),
            ("a\u{2028}b", "a\\u{2028}b"),
        ] {
            assert_eq!(shown(text), told);
        }
        assert_eq!(cut("a\u{7}bcdefg", 7), "a\\u{7}…", "the code counts too");
    }

    #[test]
    fn the_crd_refuses_what_is_shown_by_its_code() {
        let range = |(first, last): (char, char)| format!(r"\x{{{:x}}}-\x{{{:x}}}", u32::from(first), u32::from(last));
        let ranges: String = INVISIBLE.map(range).concat();
        assert_eq!(IS_VISIBLE, format!("!self.matches(r'[{ranges}]')"));
    }

    #[test]
    fn whatever_is_shown_has_no_invisible_character_and_is_shown_the_same_again() {
        for code in 0..=0x10_ffff {
            let Some(c) = char::from_u32(code) else { continue };
            let text = c.to_string();
            let told = shown(&text).into_owned();
            assert!(!told.contains(is_invisible), "{code:x}");
            assert_eq!(shown(&told), told, "{code:x}");
            // Whatever is a control character by its category is invisible.
            assert!(!c.is_control() || is_invisible(c), "{code:x}");
        }
    }
}
