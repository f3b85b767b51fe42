//! Label selectors as people write them on the command line, in the syntax of kubectl:
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use kube::core::{Expression, Selector, SelectorExt};

use super::names::{check_label_key, check_label_value};

/// A label selector. All its requirements must be met; without requirements it selects everything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelQuery {
    text: String,
    selector: Selector,
}

impl LabelQuery {
    /// Whether it has no requirements, so that it selects everything.
    pub fn is_empty(&self) -> bool {
        self.selector.selects_all()
    }

    /// Whether it selects an object with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }
}

impl fmt::Display for LabelQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for LabelQuery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = UnreadQuery(text.trim());
        let mut query = Self { text: text.trim().to_owned(), selector: Selector::default() };
        if rest.is_empty() {
            return Ok(query);
        }
        loop {
            query.selector.extend([rest.requirement()?]);
            if rest.is_empty() {
                return Ok(query);
            }
            if !rest.eat(",") {
                return Err(format!("before {:?} a comma is missing: write requirements such as app=web,tier!=test", rest.0));
            }
        }
    }
}

/// What is not read yet.
struct UnreadQuery<'t>(&'t str);

impl<'t> UnreadQuery<'t> {
    fn is_empty(&mut self) -> bool {
        self.0 = self.0.trim_start();
        self.0.is_empty()
    }

    /// Reads this text, if it is next.
    fn eat(&mut self, text: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Reads a key, a value or an operator that is a word. It may be empty.
    fn word(&mut self) -> &'t str {
        let rest = self.0.trim_start();
        let end = rest.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.0 = rest;
        word
    }

    fn requirement(&mut self) -> Result<Expression, String> {
        if self.eat("!") {
            return Ok(Expression::DoesNotExist(self.key()?));
        }
        let key = self.key()?;
        if self.eat("!=") {
            return Ok(Expression::NotEqual(key, self.value()?));
        }
        if self.eat("==") || self.eat("=") {
            return Ok(Expression::Equal(key, self.value()?));
        }
        if self.is_empty() || self.0.starts_with(',') {
            return Ok(Expression::Exists(key));
        }
        let before = self.0;
        match self.word() {
            "in" => self.values(&key, "in").map(|values| Expression::In(key, values)),
            "notin" => self.values(&key, "notin").map(|values| Expression::NotIn(key, values)),
            _ => Err(format!("behind {key} stands {before:?}: write one of =, ==, !=, in (…) and notin (…)")),
        }
    }

    fn key(&mut self) -> Result<String, String> {
        match self.word() {
            "" if self.0.is_empty() => Err("at its end the key of a label is missing, such as app".into()),
            "" => Err(format!("before {:?} the key of a label is missing, such as app", self.0)),
            key => check_label_key(key).map(|()| key.to_owned()).map_err(|error| error.to_string()),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let value = self.word();
        check_label_value(value).map(|()| value.to_owned()).map_err(|error| error.to_string())
    }

    /// Reads values in brackets.
    fn values(&mut self, key: &str, operator: &str) -> Result<BTreeSet<String>, String> {
        let wrong = || format!("behind {key} {operator} write values in brackets, such as {key} {operator} (web,api)");
        if !self.eat("(") || self.eat(")") {
            return Err(wrong());
        }
        let mut values = BTreeSet::from([self.value()?]);
        while self.eat(",") {
            values.insert(self.value()?);
        }
        if self.eat(")") { Ok(values) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(query: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        query.parse::<LabelQuery>().unwrap_or_else(|error| panic!("{query}: {error}")).selects(&labels)
    }

    #[test]
    fn every_form_that_kubectl_reads_is_read() {
        let web = &[("app", "web"), ("tier", "front"), ("empty", "")][..];
        for yes in [
            "",
            " ",
            "app=web",
            "app==web",
            "app = web",
            "app!=api",
            "missing!=api",
            "app in (web,api)",
            "app in(web)",
            "app notin (api)",
            "missing notin (api)",
            "app",
            "!missing",
            "! missing",
            "app=web,tier=front",
            " app = web , tier in ( back , front ) ",
            "empty=",
            "empty==",
            "app!=",
            "empty in (,x)",
            "in!=x",
            "!in",
            "!notin,app",
        ] {
            assert!(selects(yes, web), "{yes}");
        }
        for no in [
            "app=api",
            "app!=web",
            "app in (api,db)",
            "missing in (web)",
            "app notin (web,api)",
            "!app",
            "missing",
            "app=web,tier=back",
            "app=",
            "empty!=",
            "missing=",
            "in",
        ] {
            assert!(!selects(no, web), "{no}");
        }
        assert!(selects("example.com/team=a", &[("example.com/team", "a")]));
        assert_eq!(" app=web ".parse::<LabelQuery>().unwrap().to_string(), "app=web");
    }

    #[test]
    fn what_is_no_selector_says_what_is_wrong() {
        for (wrong, expected) in [
            ("app=web,", "at its end the key of a label is missing, such as app"),
            (",app", "before \",app\" the key of a label is missing, such as app"),
            ("=web", "before \"=web\" the key of a label is missing, such as app"),
            ("!", "at its end the key of a label is missing, such as app"),
            ("app=web tier=front", "before \"tier=front\" a comma is missing: write requirements such as app=web,tier!=test"),
            ("app=a=b", "before \"=b\" a comma is missing: write requirements such as app=web,tier!=test"),
            ("!app=web", "before \"=web\" a comma is missing: write requirements such as app=web,tier!=test"),
            ("app>3", "behind app stands \">3\": write one of =, ==, !=, in (…) and notin (…)"),
            ("app is web", "behind app stands \"is web\": write one of =, ==, !=, in (…) and notin (…)"),
            ("app in web", "behind app in write values in brackets, such as app in (web,api)"),
            ("app in ()", "behind app in write values in brackets, such as app in (web,api)"),
            ("app notin (web", "behind app notin write values in brackets, such as app notin (web,api)"),
            ("app notin", "behind app notin write values in brackets, such as app notin (web,api)"),
            ("a/b/c=1", "\"a/b/c\" "),
            ("app=-web", "\"-web\" "),
            ("app in (a b)", "behind app in write values in brackets, such as app in (web,api)"),
        ] {
            let error = wrong.parse::<LabelQuery>().unwrap_err();
            assert!(error.starts_with(expected), "{wrong}: {error}");
        }
    }
}
