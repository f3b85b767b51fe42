//! Parses the part of CEL that the rules of our CRDs use. What they do not use is an error, and a test parses every rule of the CRDs.
//! The language: <https://github.com/google/cel-spec/blob/master/doc/langdef.md>.

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum CelExpr {
    Int(i64),
    Text(String),
    Name(String),
    List(Vec<Self>),
    /// A field of a value.
    Field(Box<Self>, String),
    /// A function, or a method if there is a receiver.
    Call(Option<Box<Self>>, String, Vec<Self>),
    Not(Box<Self>),
    Binary(Box<Self>, &'static str, Box<Self>),
    /// Condition, then, else.
    Choice(Box<[Self; 3]>),
}

/// Operators, from the loosest to the tightest. Of one that begins another, the longer comes first.
const LEVELS: [&[&str]; 5] = [&["||"], &["&&"], &["==", "!=", "<=", ">=", "<", ">", "in "], &["+", "-"], &["%", "*", "/"]];

/// Parses a rule.
pub fn parse(text: &str) -> Result<CelExpr, String> {
    let mut rest = CelText(text);
    let expression = rest.choice()?;
    rest.skip();
    if rest.0.is_empty() { Ok(expression) } else { Err(format!("unexpected {:?}", rest.0)) }
}

/// What is left of a rule.
struct CelText<'a>(&'a str);

impl CelText<'_> {
    fn skip(&mut self) {
        self.0 = self.0.trim_start();
    }

    /// Takes a token if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip();
        let after = self.0.strip_prefix(token);
        self.0 = after.unwrap_or(self.0);
        after.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("expected {token:?} before {:?}", self.0)) }
    }

    fn choice(&mut self) -> Result<CelExpr, String> {
        let condition = self.binary(&LEVELS)?;
        if !self.take("?") {
            return Ok(condition);
        }
        let then = self.choice()?;
        self.expect(":")?;
        Ok(CelExpr::Choice(Box::new([condition, then, self.choice()?])))
    }

    fn binary(&mut self, levels: &[&[&'static str]]) -> Result<CelExpr, String> {
        let Some((operators, tighter)) = levels.split_first() else { return self.unary() };
        let mut left = self.binary(tighter)?;
        while let Some(operator) = operators.iter().find(|operator| self.take(operator)) {
            left = CelExpr::Binary(Box::new(left), operator.trim_end(), Box::new(self.binary(tighter)?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<CelExpr, String> {
        if self.take("!") {
            return Ok(CelExpr::Not(Box::new(self.unary()?)));
        }
        let mut value = self.primary()?;
        while self.take(".") {
            let name = self.name()?;
            value = if self.take("(") {
                CelExpr::Call(Some(Box::new(value)), name, self.list(")")?)
            } else {
                CelExpr::Field(Box::new(value), name)
            };
        }
        Ok(value)
    }

    fn primary(&mut self) -> Result<CelExpr, String> {
        if self.take("(") {
            let inside = self.choice()?;
            return self.expect(")").map(|()| inside);
        }
        if self.take("[") {
            return self.list("]").map(CelExpr::List);
        }
        if let Some(text) = self.string()? {
            return Ok(CelExpr::Text(text));
        }
        let digits = self.0.len() - self.0.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            let (number, after) = self.0.split_at(digits);
            self.0 = after;
            return number.parse().map(CelExpr::Int).map_err(|error| error.to_string());
        }
        let name = self.name()?;
        if self.take("(") { Ok(CelExpr::Call(None, name, self.list(")")?)) } else { Ok(CelExpr::Name(name)) }
    }

    fn name(&mut self) -> Result<String, String> {
        self.skip();
        let end = self.0.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.0.len());
        if end == 0 {
            return Err(format!("expected a name before {:?}", self.0));
        }
        let (name, after) = self.0.split_at(end);
        self.0 = after;
        Ok(name.into())
    }

    fn list(&mut self, end: &str) -> Result<Vec<CelExpr>, String> {
        let mut found = Vec::new();
        while !self.take(end) {
            if !found.is_empty() {
                self.expect(",")?;
            }
            found.push(self.choice()?);
        }
        Ok(found)
    }

    /// A text in quotes. In a raw one, a backslash is a backslash; in another one, none is expected.
    fn string(&mut self) -> Result<Option<String>, String> {
        self.skip();
        let (is_raw, inside) = self.0.strip_prefix('r').map_or((false, self.0), |inside| (true, inside));
        let Some(quote) = inside.chars().next().filter(|c| ['\'', '"'].contains(c)) else { return Ok(None) };
        let inside = &inside[1..];
        let (text, after) = inside.split_once(quote).ok_or("a text does not end")?;
        if text.contains('\\') && !is_raw {
            return Err(format!("{text:?} has a backslash, and is not raw"));
        }
        self.0 = after;
        Ok(Some(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expression: &CelExpr) -> String {
        let list = |all: &[CelExpr]| all.iter().map(shown).collect::<Vec<_>>().join(", ");
        match expression {
            CelExpr::Int(number) => number.to_string(),
            CelExpr::Text(text) => format!("{text:?}"),
            CelExpr::Name(name) => name.clone(),
            CelExpr::List(all) => format!("[{}]", list(all)),
            CelExpr::Field(of, name) => format!("{}.{name}", shown(of)),
            CelExpr::Call(None, name, all) => format!("{name}({})", list(all)),
            CelExpr::Call(Some(of), name, all) => format!("{}.{name}({})", shown(of), list(all)),
            CelExpr::Not(of) => format!("!{}", shown(of)),
            CelExpr::Binary(left, operator, right) => format!("({} {operator} {})", shown(left), shown(right)),
            CelExpr::Choice(parts) => format!("({} ? {} : {})", shown(&parts[0]), shown(&parts[1]), shown(&parts[2])),
        }
    }

    #[test]
    fn operators_bind_as_the_language_says() {
        for (text, expected) in [
            ("a || b && !c == d", "(a || (b && (!c == d)))"),
            ("a in ['x', r'\\d'] ? 1 : b.c ? 2 : 3", "((a in [\"x\", \"\\\\d\"]) ? 1 : (b.c ? 2 : 3))"),
            ("(has(a.b) ? 1 : 0) + 2 % 3 == 1", "(((has(a.b) ? 1 : 0) + (2 % 3)) == 1)"),
            ("a.all(p, type(p.q) == int).r(0, 4)", "a.all(p, (type(p.q) == int)).r(0, 4)"),
            ("a - b - c <= 1", "(((a - b) - c) <= 1)"),
            ("index", "index"),
        ] {
            assert_eq!(parse(text).map(|expression| shown(&expression)).as_deref(), Ok(expected), "{text}");
        }
        for broken in ["", "a b", "a +", "(a", "f(a", "'a", "'\\d'", "a ? b", "a."] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
