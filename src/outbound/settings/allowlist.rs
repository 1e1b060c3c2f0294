//! `allowlist` of `[outbound]`: who may be written to where it is not in earnest.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Whom messages may go to.
#[derive(Clone, PartialEq, Eq)]
pub enum Allowlist {
    Everybody,
    /// These numbers, each as its digits.
    Only(BTreeSet<String>),
}

/// Numbers as they are written: one text with commas between them, or an array.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    numbers: Vec<String>,
    /// Written as an empty text: what a variable without a value leaves behind.
    is_left_empty: bool,
}

impl Allowlist {
    /// Whether a number may be written to. Numbers are compared by their digits: `+55 11 5555-0100` is `551155550100`.
    pub fn allows(&self, number: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(numbers) => numbers.contains(&digits(number)),
        }
    }
}

impl Numbers {
    /// From one text with commas.
    pub fn split(text: &str) -> Self {
        let numbers = text.split(',').map(str::trim).filter(|number| !number.is_empty());
        Self { numbers: numbers.map(str::to_owned).collect(), is_left_empty: text.trim().is_empty() }
    }

    /// Nobody said anything, not even that there is nobody.
    pub fn is_left_empty(&self) -> bool {
        self.is_left_empty
    }

    /// The digits of each. The error says which one has none and does not quote it: these are numbers of people.
    pub fn digits(&self) -> Result<BTreeSet<String>, String> {
        let digits: Vec<String> = self.numbers.iter().map(|number| digits(number)).collect();
        match digits.iter().position(String::is_empty) {
            Some(at) => Err(format!("number {} of {} has no digits", at + 1, digits.len())),
            None => Ok(digits.into_iter().collect()),
        }
    }
}

/// What a number is compared by.
pub(in crate::outbound) fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// How many, and not which.
impl fmt::Debug for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("Everybody"),
            Self::Only(numbers) => write!(f, "Only({} numbers)", numbers.len()),
        }
    }
}

/// The list belongs to the host and not to the job, and a number could be guessed from its hash.
impl Serialize for Allowlist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Everybody => "everybody",
            Self::Only(_) => "listed",
        })
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbers({})", self.numbers.len())
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Numbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text with commas or an array of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Numbers, E> {
                Ok(Numbers::split(text))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Numbers, A::Error> {
                let mut numbers = Vec::new();
                while let Some(item) = items.next_element::<String>()? {
                    numbers.extend(Numbers::split(&item).numbers);
                }
                Ok(Numbers { numbers, is_left_empty: false })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Numbers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Numbers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "text with commas, or array of texts",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_their_digits() {
        let numbers = Numbers::split(" +55 (11) 5555-0100, ,551155550101 ").digits().expect("two numbers");
        let allowlist = Allowlist::Only(numbers);

        for (number, is_allowed) in
            [("551155550100", true), ("+55 11 55550101", true), ("1155550100", false), ("", false), ("55", false)]
        {
            assert_eq!(allowlist.allows(number), is_allowed, "{number:?}");
            assert!(Allowlist::Everybody.allows(number));
        }
        assert_eq!(format!("{allowlist:?}"), "Only(2 numbers)");
    }

    #[test]
    fn what_is_no_number_is_told_and_not_quoted() {
        let mistake = Numbers::split("551155550100,maria").digits().expect_err("no digits");

        assert_eq!(mistake, "number 2 of 2 has no digits");
    }
}
