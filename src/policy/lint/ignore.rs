//! The annotation that ignores rules for one object: `policybaseline.io/lint-ignore: PB401=the proxy serves the internet; PB007=set by Argo CD`.

use super::{found::RuleHit, rule::LintRule, shape::did_you_mean, tree::YamlNode};

/// Its key.
pub const IGNORE: &str = "policybaseline.io/lint-ignore";
/// What it needs.
const FORM: &str = "Write RULE=reason; several are separated by semicolons";

/// The rules that an object ignores, and what is wrong with its annotation.
pub fn ignored(object: &YamlNode) -> (Vec<LintRule>, Vec<RuleHit>) {
    let path = format!("metadata.annotations[{IGNORE}]");
    let Some(text) = object.at("metadata.annotations").and_then(|annotations| annotations.text(IGNORE)) else {
        return (vec![], vec![]);
    };
    let (mut rules, mut found) = (Vec::new(), Vec::new());
    for part in text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (name, reason) = part.split_once('=').unwrap_or((part, ""));
        let (name, reason) = (name.trim(), reason.trim());
        let wrong = match LintRule::named(name) {
            None => {
                let names = LintRule::all().flat_map(|rule| [rule.id(), rule.name()]);
                format!("there is no rule {name:?}{}", did_you_mean(name, names))
            }
            Some(rule) if reason.is_empty() => format!("{} is not ignored without a reason. {FORM}", rule.id()),
            Some(rule) => {
                rules.push(rule);
                continue;
            }
        };
        found.push(RuleHit::new(LintRule::BadIgnore, path.clone(), wrong));
    }
    if rules.is_empty() && found.is_empty() {
        found.push(RuleHit::new(LintRule::BadIgnore, path, format!("this ignores nothing. {FORM}")));
    }
    (rules, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::lint::yaml::documents;

    fn read(text: &str) -> (Vec<&'static str>, Vec<String>) {
        let object = documents(&format!("metadata: {{annotations: {{{IGNORE}: {text:?}}}}}")).0.remove(0);
        let (rules, found) = ignored(&object);
        (rules.into_iter().map(LintRule::id).collect(), found.into_iter().map(|hit| hit.message).collect())
    }

    #[test]
    fn a_rule_is_ignored_by_its_id_or_its_name_with_a_reason() {
        assert_eq!(read("PB401=it serves the internet; no-namespace = kustomize sets it"), (vec!["PB401", "PB007"], vec![]));
        assert_eq!(
            read("PB401").1,
            ["PB401 is not ignored without a reason. Write RULE=reason; several are separated by semicolons"]
        );
        assert_eq!(read("PB401= ;PB007=x").0, ["PB007"]);
        assert_eq!(read("brod-cidr=x").1, ["there is no rule \"brod-cidr\"; did you mean \"broad-cidr\"?"]);
        assert_eq!(read(" ").1.len(), 1);
    }
}
