//! Runs the rules of our CRDs, so that a file is refused by the very rules that the API server runs. It knows what these rules use. The
//! functions for addresses: <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cidr-library>.

use std::net::IpAddr;

use ipnet::IpNet;
use regex_lite::Regex;
use serde_json::Value;

use super::cel_text::{CelExpr, parse};

/// A value of CEL.
#[derive(Clone, Debug, PartialEq)]
enum CelValue<'a> {
    /// A part of an object.
    Json(&'a Value),
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Self>),
    /// A name of a type.
    Type(&'static str),
    Cidr(IpNet),
    Address(IpAddr),
    /// In seconds.
    Duration(i64),
}

/// The names that an expression may use.
type Names<'a, 'n> = Vec<(&'n str, CelValue<'a>)>;

/// Whether a rule holds for a value. An error says what the rule does that is not known, or not possible with this value.
pub fn holds(rule: &str, value: &Value) -> Result<bool, String> {
    let rule = parse(rule)?;
    evaluate(&rule, &vec![("self", CelValue::of(value))])?.bool()
}

/// Whether a text matches a pattern.
pub fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    Regex::new(pattern).map(|pattern| pattern.is_match(text)).map_err(|error| error.to_string())
}

impl<'a> CelValue<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) => number.as_i64().map_or(Self::Json(value), Self::Int),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(_) | Value::Null => Self::Json(value),
        }
    }

    fn bool(&self) -> Result<bool, String> {
        if let Self::Bool(value) = self { Ok(*value) } else { Err(format!("{self:?} is no bool")) }
    }

    fn text(&self) -> Result<&str, String> {
        if let Self::Text(text) = self { Ok(text) } else { Err(format!("{self:?} is no string")) }
    }

    fn int(&self) -> Result<i64, String> {
        if let Self::Int(value) | Self::Duration(value) = self { Ok(*value) } else { Err(format!("{self:?} is no int")) }
    }

    fn cidr(&self) -> Result<IpNet, String> {
        if let Self::Cidr(cidr) = self { Ok(*cidr) } else { Err(format!("{self:?} is no CIDR")) }
    }

    fn field(&self, name: &str) -> Option<Self> {
        if let Self::Json(value) = self { value.get(name).map(Self::of) } else { None }
    }

    /// The values that a macro goes through: those of a list, or the keys of a map.
    fn elements(&self) -> Result<Vec<Self>, String> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Json(Value::Object(fields)) => Ok(fields.keys().map(|key| Self::Text(key.clone())).collect()),
            other => Err(format!("{other:?} is no list")),
        }
    }
}

fn evaluate<'a>(expression: &CelExpr, names: &Names<'a, '_>) -> Result<CelValue<'a>, String> {
    match expression {
        CelExpr::Int(number) => Ok(CelValue::Int(*number)),
        CelExpr::Text(text) => Ok(CelValue::Text(text.clone())),
        CelExpr::Name(name) => {
            let known = names.iter().rev().find(|(known, _)| known == name);
            let value = known.map(|(_, value)| value.clone()).or_else(|| (name == "int").then_some(CelValue::Type("int")));
            value.ok_or_else(|| format!("there is no name {name}"))
        }
        CelExpr::List(items) => items.iter().map(|item| evaluate(item, names)).collect::<Result<_, _>>().map(CelValue::List),
        CelExpr::Field(of, name) => {
            let of = evaluate(of, names)?;
            of.field(name).ok_or_else(|| format!("no such key: {name}"))
        }
        CelExpr::Not(of) => evaluate(of, names)?.bool().map(|value| CelValue::Bool(!value)),
        CelExpr::Choice(parts) => {
            let [condition, then, otherwise] = &**parts;
            evaluate(if evaluate(condition, names)?.bool()? { then } else { otherwise }, names)
        }
        CelExpr::Binary(left, operator, right) => binary(evaluate(left, names)?, operator, right, names),
        CelExpr::Call(None, name, arguments) if name == "has" => match &arguments[..] {
            [CelExpr::Field(of, field)] => Ok(CelValue::Bool(evaluate(of, names)?.field(field).is_some())),
            _ => Err("has() takes a field".into()),
        },
        CelExpr::Call(None, name, arguments) => match &arguments[..] {
            [argument] => function(name, &evaluate(argument, names)?),
            _ => Err(format!("{name}() takes one value")),
        },
        CelExpr::Call(Some(of), name, arguments) => {
            let of = evaluate(of, names)?;
            match (&**name, &arguments[..]) {
                ("all" | "exists_one", [CelExpr::Name(each), test]) => quantifier(name, &of, each, test, names),
                (name, arguments) => {
                    let arguments = arguments.iter().map(|argument| evaluate(argument, names)).collect::<Result<Vec<_>, _>>()?;
                    method(&of, name, &arguments)
                }
            }
        }
    }
}

fn quantifier<'a>(
    name: &str,
    of: &CelValue<'a>,
    each: &str,
    test: &CelExpr,
    names: &Names<'a, '_>,
) -> Result<CelValue<'a>, String> {
    let elements = of.elements()?;
    let mut inside: Names = names.clone();
    let mut met = 0;
    for element in &elements {
        inside.push((each, element.clone()));
        met += usize::from(evaluate(test, &inside)?.bool()?);
        inside.pop();
    }
    Ok(CelValue::Bool(if name == "all" { met == elements.len() } else { met == 1 }))
}

fn binary<'a>(left: CelValue<'a>, operator: &str, right: &CelExpr, names: &Names<'a, '_>) -> Result<CelValue<'a>, String> {
    // The right side of these is not needed if the left one decides.
    match operator {
        "||" if left.bool()? => return Ok(left),
        "&&" if !left.bool()? => return Ok(left),
        _ => {}
    }
    let right = evaluate(right, names)?;
    let value = match operator {
        "||" | "&&" => return right.bool().map(CelValue::Bool),
        "==" => left == right,
        "!=" => left != right,
        "in" => right.elements()?.contains(&left),
        "<=" => left.int()? <= right.int()?,
        ">=" => left.int()? >= right.int()?,
        "<" => left.int()? < right.int()?,
        ">" => left.int()? > right.int()?,
        "+" => return Ok(CelValue::Int(left.int()?.saturating_add(right.int()?))),
        "%" => return left.int()?.checked_rem(right.int()?).map(CelValue::Int).ok_or_else(|| "modulus by zero".into()),
        _ => return Err(format!("the operator {operator} is not known")),
    };
    Ok(CelValue::Bool(value))
}

fn function<'a>(name: &str, of: &CelValue<'a>) -> Result<CelValue<'a>, String> {
    match name {
        "size" => size(of).map(CelValue::Int),
        "type" => Ok(CelValue::Type(if matches!(of, CelValue::Int(_)) { "int" } else { "another type" })),
        "int" => of.text()?.parse().map(CelValue::Int).map_err(|_| format!("{of:?} is no int")),
        "isCIDR" => Ok(CelValue::Bool(of.text().is_ok_and(|text| cidr(text).is_some()))),
        "cidr" => of.text().and_then(|text| cidr(text).map(CelValue::Cidr).ok_or_else(|| format!("{text:?} is no CIDR"))),
        "duration" => of.text().and_then(|text| seconds(text).map(CelValue::Duration).ok_or_else(|| "it is no duration".into())),
        _ => Err(format!("the function {name}() is not known")),
    }
}

fn method<'a>(of: &CelValue<'a>, name: &str, arguments: &[CelValue<'a>]) -> Result<CelValue<'a>, String> {
    match (name, arguments) {
        ("matches", [pattern]) => matches(pattern.text()?, of.text()?).map(CelValue::Bool),
        ("startsWith", [with]) => Ok(CelValue::Bool(of.text()?.starts_with(with.text()?))),
        ("endsWith", [with]) => Ok(CelValue::Bool(of.text()?.ends_with(with.text()?))),
        ("trim", []) => Ok(CelValue::Text(of.text()?.trim().into())),
        ("substring", [from, to]) => {
            let (from, to) = (usize::try_from(from.int()?), usize::try_from(to.int()?));
            let (Ok(from), Ok(to)) = (from, to) else { return Err("an index is negative".into()) };
            Ok(CelValue::Text(of.text()?.chars().take(to).skip(from).collect()))
        }
        ("ip", []) => of.cidr().map(|cidr| CelValue::Address(cidr.addr())),
        ("masked", []) => of.cidr().map(|cidr| CelValue::Cidr(cidr.trunc())),
        ("prefixLength", []) => of.cidr().map(|cidr| CelValue::Int(cidr.prefix_len().into())),
        ("containsCIDR", [other]) => {
            let text = other.text()?;
            let other = cidr(text).ok_or_else(|| format!("{text:?} is no CIDR"))?;
            of.cidr().map(|cidr| CelValue::Bool(cidr.contains(&other)))
        }
        ("family", []) => match of {
            CelValue::Address(address) => Ok(CelValue::Int(if address.is_ipv4() { 4 } else { 6 })),
            other => Err(format!("{other:?} is no address")),
        },
        _ => Err(format!("the method {name}() is not known")),
    }
}

fn size(of: &CelValue) -> Result<i64, String> {
    let size = match of {
        CelValue::Text(text) => text.chars().count(),
        other => other.elements()?.len(),
    };
    i64::try_from(size).map_err(|error| error.to_string())
}

/// A range of addresses as the library of Kubernetes reads it: no leading zeros, no zone, and no IPv4 address written as IPv6.
fn cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let is_mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let length: u8 = length.parse().ok().filter(|_| length == "0" || !length.starts_with(['0', '+']))?;
    IpNet::new(address, length).ok().filter(|_| !is_mapped)
}

/// The seconds of a duration in hours, minutes and seconds.
fn seconds(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(['h', 'm', 's'])?);
        let unit = match after.as_bytes().first()? {
            b'h' => 3600,
            b'm' => 60,
            _ => 1,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
        rest = &after[1..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_hold_as_the_language_and_its_libraries_say() {
        let value = json!({"n": 5, "t": "a-b", "list": ["x", "y", "x"], "map": {"k": 1}, "cidr": "10.1.0.0/16"});
        for (rule, expected) in [
            ("self.n >= 5 && self.n < 6 && !(self.n == 4)", true),
            ("has(self.n) && !has(self.m)", true),
            ("has(self.m) && self.m == 1", false),
            ("!has(self.m) || self.m == 1", true),
            ("self.t.matches('^[a-z]-b$') && self.t.startsWith('a') && self.t.endsWith('b') && size(self.t) == 3", true),
            ("self.list.all(e, e in ['x', 'y'])", true),
            ("self.list.all(e, self.list.exists_one(f, f == e))", false),
            ("self.map.all(k, k == 'k') && size(self.map) == 1 && size(self.list) == 3", true),
            ("type(self.n) == int ? type(self.t) == int : true", false),
            ("cidr('10.0.0.0/8').containsCIDR(self.cidr) && cidr(self.cidr).prefixLength() == 16", true),
            ("cidr('10.0.0.1/8') == cidr('10.0.0.1/8').masked()", false),
            ("isCIDR('::ffff:10.0.0.0/104') || isCIDR('10.0.0.0/08') || isCIDR('10.0.0.0')", false),
            ("cidr('fd00::/8').ip().family() == 6", true),
            ("duration('1h30m') <= duration('5400s') && duration('721h') > duration('720h')", true),
            ("int('2028'.substring(0, 4)) % 4 == 0", true),
            ("size(' ä '.trim()) + 1 == 2", true),
        ] {
            assert_eq!(holds(rule, &value), Ok(expected), "{rule}");
        }
        for broken in ["self.m", "self.n", "self.t + 1 == 2", "nobody", "sqrt(self.n)", "self.t.reverse() == ''", "'a' - 1 == 0"]
        {
            assert!(holds(broken, &value).is_err(), "{broken}");
        }
    }
}
