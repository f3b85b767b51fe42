//! Mutations of JSON that keep it valid JSON. If bytes are changed, most inputs do not parse, and the code behind the parser is not
//! tested.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// The words of the dictionaries that libFuzzer gets.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let dictionaries = [
        include_str!("../policy.dict"),
        include_str!("../baseline.dict"),
        include_str!("../opt-out.dict"),
        include_str!("../dns.dict"),
        include_str!("../manifests.dict"),
    ];
    let lines = dictionaries.map(str::lines).into_iter().flatten();
    lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).filter(|word| !word.contains('\\')).collect()
});

/// A pseudorandom generator (SplitMix64). It is good enough here, and repeatable for the same seed.
struct Chance(u64);

impl Chance {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        let most = u64::try_from(most.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.number() % most).unwrap_or(0)
    }

    fn word(&mut self) -> &'static str {
        WORDS.get(self.below(WORDS.len())).copied().unwrap_or_default()
    }

    fn value(&mut self) -> Value {
        match self.below(14) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!([]),
            3 => json!({}),
            4 => json!([{}]),
            5 => json!(i32::MAX),
            6 => json!(-1),
            7 => json!(self.number() % 65_537),
            8 => json!(""),
            9 => json!("*"),
            10 => json!("x".repeat(self.below(320))),
            11 => json!("é\u{202e}\0"),
            _ => json!(self.word()),
        }
    }
}

/// Changes one to three places of a JSON text. None if the text is not JSON.
pub fn mutate(text: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    let mut chance = Chance(seed.into());
    for _ in 0..=chance.below(3) {
        let places = places(&value);
        let (at, from) = (chance.below(places), chance.below(places));
        let other = place(&mut value, &mut { from }).cloned().unwrap_or_default();
        if let Some(at) = place(&mut value, &mut { at }) {
            change(at, other, &mut chance);
        }
    }
    serde_json::to_vec(&value).ok()
}

/// The same in a buffer of libFuzzer, of which `size` bytes are text. Returns the new number of bytes. None if libFuzzer should change
/// bytes instead: for one seed in four, because not all real input is JSON, and if the result does not fit.
pub fn mutate_within(bytes: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let changed = if seed.is_multiple_of(4) { None } else { mutate(&bytes[..size], seed) };
    let text = changed.filter(|text| text.len() <= max_size)?;
    bytes[..text.len()].copy_from_slice(&text);
    Some(text.len())
}

fn change(value: &mut Value, other: Value, chance: &mut Chance) {
    match (value, chance.below(4)) {
        (value, 0) => *value = chance.value(),
        (value, 1) => *value = other,
        (Value::Object(fields), 2) => {
            let which = chance.below(fields.len());
            let key = fields.keys().nth(which).cloned().unwrap_or_default();
            fields.remove(&key);
        }
        (Value::Object(fields), _) => {
            let new = if chance.below(2) == 0 { other } else { chance.value() };
            fields.insert(chance.word().to_owned(), new);
        }
        (Value::Array(items), 2) if !items.is_empty() => drop(items.remove(chance.below(items.len()))),
        // A copy of an element often gives a valid list.
        (Value::Array(items), _) => {
            let own = items.get(chance.below(items.len())).cloned();
            let new = if chance.below(2) == 0 { own.unwrap_or(other) } else { other };
            items.insert(chance.below(items.len() + 1), new);
        }
        (Value::String(text), 2) => text.push_str(chance.word()),
        (Value::String(text), _) => *text = text.chars().rev().skip(1).collect(),
        (Value::Number(number), _) => *number = (number.as_i64().unwrap_or(0).wrapping_add(1)).into(),
        (value, _) => *value = chance.value(),
    }
}

/// The number of values, including nested ones.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    }
}

/// The value at this place, counted depth-first from the outermost value.
fn place<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| place(item, left)),
        Value::Object(fields) => fields.values_mut().find_map(|field| place(field, left)),
        _ => None,
    }
}
