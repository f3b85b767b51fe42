//! What plain words of YAML mean to Kubernetes, which reads YAML 1.1: `yes` and `on` are booleans, and `0644` is octal.

use serde_json::Number;

use super::tree::YamlValue;

/// What a plain word means.
pub fn plain(text: &str) -> YamlValue {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return YamlValue::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return YamlValue::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return YamlValue::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| YamlValue::Text(text.into()), YamlValue::Number)
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let digits = unsigned.replace('_', "");
    let radix = |prefix: &str, radix| digits.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok());
    let is_octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let integer = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8));
    let integer = integer.or_else(|| if is_octal { i64::from_str_radix(&digits, 8).ok() } else { digits.parse().ok() });
    if let Some(integer) = integer {
        return Some(Number::from(if text.starts_with('-') { -integer } else { integer }));
    }
    // A version such as 1.2.3 and a date are texts.
    let is_float = digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let float: f64 = text.replace('_', "").parse().ok().filter(|_| is_float)?;
    whole(float).or_else(|| Number::from_f64(float))
}

/// The integer, if a number has no fraction. kubectl sends JSON, and writes `80.0` and `8e1` there as `80`.
fn whole(float: f64) -> Option<Number> {
    /// The first integer that a number of this type cannot tell apart from its neighbour.
    const MOST: f64 = 9_007_199_254_740_992.0;
    let is_whole = float.fract() == 0.0 && float.abs() < MOST;
    is_whole.then(|| format!("{float:.0}").parse::<i64>().ok().map(Number::from)).flatten()
}
