//! One mistake in a baseline, and the mistakes that every label selector can have.

/// One mistake: its place in the schema, the rule or bound that it breaks, and a spec with it and one without it, in YAML.
pub struct Mistake {
    pub at: String,
    pub breaks: String,
    pub bad: String,
    pub good: String,
    /// The field and the text that the API server's message must contain.
    pub says: [String; 2],
}

pub fn mistake(at: &str, breaks: &str, bad: &str, good: &str, field: &str, says: &str) -> Mistake {
    let [at, breaks, bad, good] = [at, breaks, bad, good].map(ToOwned::to_owned);
    Mistake { at, breaks, bad, good, says: [format!("{field}: "), says.to_owned()] }
}

/// A list of `count` entries, in YAML.
pub fn list(count: usize, entry: impl Fn(usize) -> String) -> String {
    let entries: Vec<String> = (0..count).map(entry).collect();
    format!("[{}]", entries.join(", "))
}

/// A map of `count` entries, in YAML.
pub fn map(count: usize) -> String {
    let entries: Vec<String> = (0..count).map(|i| format!("key-{i}: v")).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// The mistakes in a selector, with paths relative to the selector.
pub fn selector_mistakes() -> Vec<Mistake> {
    let expression = |text: &str| format!("{{ matchExpressions: [{{ {text} }}] }}");
    let v = |length: usize| "v".repeat(length);
    let values = |count: usize| expression(&format!("key: tier, operator: In, values: {}", list(count, |i| format!("v{i}"))));
    let expressions =
        |count: usize| format!("{{ matchExpressions: {} }}", list(count, |i| format!("{{ key: k{i}, operator: Exists }}")));
    let labels = |count: usize| format!("{{ matchLabels: {} }}", map(count));
    let good = expression("key: tier, operator: Exists");
    vec![
        mistake(".matchLabels", "maxProperties", &labels(17), &labels(16), ".matchLabels", "must have at most 16 items"),
        mistake(
            ".matchLabels{}",
            "maxLength",
            &format!("{{ matchLabels: {{ tier: {} }} }}", v(64)),
            &format!("{{ matchLabels: {{ tier: {} }} }}", v(63)),
            ".matchLabels.tier",
            "may not be more than 63 bytes",
        ),
        mistake(
            ".matchExpressions",
            "maxItems",
            &expressions(17),
            &expressions(16),
            ".matchExpressions",
            "must have at most 16 items",
        ),
        mistake(
            ".matchExpressions[]",
            "required key",
            &expression("operator: Exists"),
            &good,
            ".matchExpressions[0].key",
            "Required value",
        ),
        mistake(
            ".matchExpressions[]",
            "required operator",
            &expression("key: tier"),
            &good,
            ".matchExpressions[0].operator",
            "Required value",
        ),
        mistake(
            ".matchExpressions[].key",
            "minLength",
            &expression("key: '', operator: Exists"),
            &good,
            ".matchExpressions[0].key",
            "should be at least 1 chars long",
        ),
        mistake(
            ".matchExpressions[].key",
            "maxLength",
            &expression(&format!("key: {}, operator: Exists", v(318))),
            &expression(&format!("key: {}, operator: Exists", v(317))),
            ".matchExpressions[0].key",
            "may not be more than 317 bytes",
        ),
        mistake(
            ".matchExpressions[].operator",
            "enum",
            &expression("key: tier, operator: in, values: [prod]"),
            &expression("key: tier, operator: In, values: [prod]"),
            ".matchExpressions[0].operator",
            "Unsupported value: \"in\": supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
        ),
        mistake(
            ".matchExpressions[].values",
            "maxItems",
            &values(65),
            &values(64),
            ".matchExpressions[0].values",
            "must have at most 64 items",
        ),
        mistake(
            ".matchExpressions[].values[]",
            "maxLength",
            &expression(&format!("key: tier, operator: In, values: [{}]", v(64))),
            &expression(&format!("key: tier, operator: In, values: [{}]", v(63))),
            ".matchExpressions[0].values[0]",
            "may not be more than 63 bytes",
        ),
        mistake(
            ".matchExpressions[]",
            "rule In and NotIn need values; Exists and DoesNotExist take none",
            &expression("key: tier, operator: In"),
            &expression("key: tier, operator: NotIn, values: [prod]"),
            ".matchExpressions[0]",
            "In and NotIn need values; Exists and DoesNotExist take none",
        ),
        mistake(
            ".matchExpressions[]",
            "rule In and NotIn need values; Exists and DoesNotExist take none",
            &expression("key: tier, operator: Exists, values: [prod]"),
            &expression("key: tier, operator: DoesNotExist"),
            ".matchExpressions[0]",
            "In and NotIn need values; Exists and DoesNotExist take none",
        ),
    ]
}
