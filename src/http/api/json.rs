//! JSON from strangers: no deeper, no larger and no more ambiguous than we can vouch for.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// Most values in one body: a text of 1 MiB can hold half a million, each far larger in memory than in the text.
pub const MAX_VALUES: usize = 100_000;

/// Reads one JSON value. Refused: nesting beyond `MAX_DEPTH`, more than `MAX_VALUES` values, a key that an object has
/// twice, a NUL character (PostgreSQL keeps none), a number that a double cannot hold, invalid UTF-8.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let left = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { depth: 0, left: &left }.deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format!("more than {MAX_VALUES} values")));
        };
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        without_nul(&value)?;
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            without_nul(&key)?;
            let value = members.next_value_seed(inner)?;
            // Which of the two was meant, nobody can say.
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("an object has a key twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

fn without_nul<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a text holds a NUL character")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn what_is_read_is_what_was_sent() {
        let text = r#" {"a":[1,-2,3.5,true,null,"é\n😀"],"b":{"a":{}},"big":18446744073709551615} "#;

        let value = parse(text.as_bytes()).expect("good JSON");

        assert_eq!(value, json!({"a":[1,-2,3.5,true,null,"é\n😀"],"b":{"a":{}},"big":18_446_744_073_709_551_615_u64}));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    }

    #[test]
    fn bombs_and_ambiguities_are_refused_with_a_reason() {
        let many = format!("[{}1]", "1,".repeat(MAX_VALUES));
        let deep = nested(MAX_DEPTH + 1);
        for (text, reason) in [
            (deep.as_bytes(), "nested deeper than 64"),
            ("[".repeat(1_000_000).as_bytes(), "nested deeper than 64"),
            (r#"{"a":"#.repeat(200_000).as_bytes(), "nested deeper than 64"),
            (many.as_bytes(), "more than 100000 values"),
            (br#"{"a":1,"a":2}"#, "a key twice"),
            (br#"{"a":1,"\u0061":2}"#, "a key twice"),
            (br#"["\u0000"]"#, "NUL"),
            (br#"{"\u0000":1}"#, "NUL"),
            (br"[1e999]", "out of range"),
            (br#"["\ud800"]"#, "escape"),
            (b"[\"\xff\"]", "unicode"),
            (b"{} {}", "trailing"),
            (b"{", "EOF"),
            (b"", "EOF"),
        ] {
            let refusal = parse(text).expect_err("a bomb");
            assert!(refusal.contains(reason), "{refusal} is not: {reason}");
        }
    }
}
