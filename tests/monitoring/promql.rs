//! Finds the selectors of our metrics in an expression of PromQL.

/// A metric and what its labels must be, as in `policy_baseline_namespaces{state="held"}`.
#[derive(Debug)]
pub struct Selector {
    pub metric: String,
    pub matchers: Vec<Matcher>,
}

/// A label and the values that a matcher names. Whether it asks for them or excludes them does not matter here.
#[derive(Debug)]
pub struct Matcher {
    pub label: String,
    pub values: Vec<String>,
}

/// Every selector of a metric whose name begins with `policy_baseline_`.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let begins = expression.match_indices("policy_baseline_").map(|(at, _)| &expression[at..]);
    begins
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (metric, rest) = rest.split_at(end);
            let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
            Selector { metric: metric.to_owned(), matchers: matchers(inside) }
        })
        .collect()
}

fn matchers(inside: &str) -> Vec<Matcher> {
    let mut parts = inside.split('"');
    let mut found = Vec::new();
    while let (Some(head), Some(values)) = (parts.next(), parts.next()) {
        let label = head.trim_matches(|c: char| !c.is_ascii_lowercase()).to_owned();
        found.push(Matcher { label, values: values.split('|').map(str::to_owned).collect() });
    }
    found
}
