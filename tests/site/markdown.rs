//! The parts of a page that a link needs: its headings, as the names that code hosts and mdbook give them, and its links.

use std::collections::{BTreeMap, BTreeSet};

/// The lines of a page that are text, and not code.
fn prose(page: &str) -> Vec<&str> {
    let mut fence = false;
    let outside = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        fence ^= is_fence;
        !fence && !is_fence
    };
    page.lines().filter(outside).collect()
}

/// The name of a heading in a link: letters, digits, `-` and `_` in lower case, and `-` for each space.
fn slug(heading: &str) -> String {
    let named = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    named.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

/// The text of a heading, with the links in it as their words.
fn words(heading: &str) -> String {
    let mut rest = heading;
    let mut text = String::new();
    while let Some((before, link)) = rest.split_once("](") {
        text += before;
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text + rest
}

/// The names of the headings of a page. The second one of a name has `-1` behind it.
pub(crate) fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let heading = |line: &&str| line.starts_with('#') && line.trim_start_matches('#').starts_with(' ');
    let mut name = |line: &str| {
        let name = slug(words(line.trim_start_matches('#')).trim());
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name}-{}", *count - 1) }
    };
    prose(page).into_iter().filter(heading).map(&mut name).collect()
}

/// The targets of the links and pictures of a page, without those in code.
pub(crate) fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        found.extend(text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

#[test]
fn headings_and_links_are_read_as_code_hosts_read_them() {
    let page = "# A `b_c`: d, e\n## Twice\n## Twice\n### [x](y.md#z) and w\n```sh\n# no heading [no](link)\n```\n`[no](link)` [a `b`](c.md)\n";
    let expected = ["a-b_c-d-e", "twice", "twice-1", "x-and-w"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
    assert_eq!(links(page), ["y.md#z", "c.md"]);
}
