//! A request's body: its exact bytes, and what they mean. The bytes are what the
//! program gets; they are never written anew.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::limits::MAX_JSON_DEPTH;

/// A JSON body that has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    bytes: Bytes,
    value: Value,
}

/// The bytes are no JSON we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJson {
    /// Not JSON; says where.
    #[error("{message} at line {line} column {column}")]
    Syntax {
        /// What the parser expected.
        message: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
}

impl Payload {
    /// Reads `bytes` as one JSON value: UTF-8, at most [`MAX_JSON_DEPTH`] deep, no key
    /// twice in an object (the program might see the other value than the schema did).
    pub fn parse(bytes: Bytes) -> Result<Self, BadJson> {
        let text = std::str::from_utf8(&bytes).map_err(|_| BadJson::NotUtf8)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Strict { depth: 0 }
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value))
            .map_err(|error| BadJson::of(&error))?;
        Ok(Self { bytes, value })
    }

    /// A body that was read before, from the store.
    pub fn stored(bytes: Bytes) -> Self {
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self { bytes, value }
    }

    /// The client's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What they mean.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The elements of the array at a JSON pointer (RFC 6901), each with its own exact bytes.
    /// `None`: no array is there.
    pub fn elements(&self, pointer: &str) -> Option<Vec<Payload>> {
        let mut at: &RawValue = serde_json::from_slice(&self.bytes).ok()?;
        for key in pointer.split('/').skip(1) {
            let key = key.replace("~1", "/").replace("~0", "~");
            at = match at.get().trim_start().as_bytes().first()? {
                b'{' => {
                    serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(at.get()).ok()?.remove(&*key)?
                }
                b'[' => {
                    let list: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
                    *list.get(key.parse::<usize>().ok()?)?
                }
                _ => return None,
            };
        }
        let elements: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
        // Parts of the same bytes, not copies.
        let part = |element: &RawValue| Payload::stored(self.bytes.slice_ref(element.get().as_bytes()));
        Some(elements.into_iter().map(part).collect())
    }

    /// The bytes as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

impl BadJson {
    fn of(error: &serde_json::Error) -> Self {
        let full = error.to_string();
        let message = full.split(" at line ").next().unwrap_or(&full).to_owned();
        BadJson::Syntax { message, line: error.line(), column: error.column() }
    }
}

/// The JSON pointer (RFC 6901) of a path of keys.
pub fn pointer(path: &[impl AsRef<str>]) -> String {
    path.iter().map(|key| format!("/{}", key.as_ref().replace('~', "~0").replace('/', "~1"))).collect()
}

/// Builds a [`Value`] and refuses what serde_json would let pass.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_JSON_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_JSON_DEPTH}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if fields.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Value, String> {
        Payload::parse(Bytes::copy_from_slice(text.as_bytes()))
            .map(|payload| payload.value)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn takes_json() {
        for text in ["null", " {\"a\":[1,-2,3.5,\"x\\u00e9\",true,{}]} ", "18446744073709551615"] {
            assert_eq!(parse(text), Ok(serde_json::from_str(text).expect(text)), "{text}");
        }
        assert_eq!(parse("\"车顶左\""), Ok(json!("车顶左")));
    }

    #[test]
    fn f24_refuses_the_rest_and_says_where() {
        assert_eq!(
            parse("{\"a\":1,\n \"a\":2}").unwrap_err(),
            "the key \"a\" stands twice at line 2 column 7"
        );
        assert!(parse("{} {}").unwrap_err().starts_with("trailing characters"));
        assert!(parse("").unwrap_err().starts_with("EOF while parsing a value at line 1"));
        assert!(parse("1e999").is_err());
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).unwrap_err().starts_with("nested deeper than 64 at line 1 column 65"));
        let fits = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(parse(&fits).is_ok());
        assert_eq!(Payload::parse(Bytes::from_static(b"\"\xff\"")), Err(BadJson::NotUtf8));
    }

    #[test]
    fn elements_keep_their_bytes() {
        let body = br#"{"a/b": [{"list" : [ 1.0e3, "x", {"k" :1} ,[]]}]}"#;
        let payload = Payload::parse(Bytes::from_static(body)).expect("JSON");
        let texts = |pointer| {
            let elements = payload.elements(pointer)?;
            Some(elements.iter().map(|element| element.text().to_owned()).collect::<Vec<_>>())
        };
        let list = ["1.0e3", "\"x\"", "{\"k\" :1}", "[]"].map(str::to_owned).to_vec();
        assert_eq!(texts("/a~1b/0/list"), Some(list));
        for none in ["", "/nothing", "/a~1b/1", "/a~1b/0/list/0", "/a~1b/x"] {
            assert_eq!(texts(none), None, "{none}");
        }
        let top = Payload::parse(Bytes::from_static(b"[1, 2]")).expect("JSON");
        assert_eq!(top.elements("").map(|elements| elements.len()), Some(2));
    }

    #[test]
    fn pointers() {
        assert_eq!(pointer(&["a/b", "0", "~"]), "/a~1b/0/~0");
        assert_eq!(pointer(&[] as &[&str]), "");
    }
}
