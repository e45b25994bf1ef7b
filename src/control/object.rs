//! JSON objects, read strictly: an unknown key is an error. A `dry-run` that is ignored is a reload.

use std::fmt;

use serde::Deserialize;
use serde::de::value::EnumAccessDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::text::nearest;

/// A JSON object.
pub type Object = Map<String, Value>;

/// An error about an object, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError(String);

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ObjectError {}

impl de::Error for ObjectError {
    fn custom<T: fmt::Display>(said: T) -> ObjectError {
        ObjectError(said.to_string())
    }

    /// All variants read here are commands; those of values are reported by serde_json.
    fn unknown_variant(name: &str, known: &'static [&'static str]) -> ObjectError {
        ObjectError(format!("unknown command `{name}`{}", hint(name, known)))
    }
}

/// Deserializes a structure; `what` names the object in messages.
///
/// # Errors
/// An unknown key with the nearest known one, or a value of the wrong type with its key.
pub fn read<T: DeserializeOwned>(what: &str, object: Object) -> Result<T, ObjectError> {
    T::deserialize(Keys { what, object })
}

/// Deserializes the variant of this name.
///
/// # Errors
/// As of [`read`], and an unknown name.
pub fn read_variant<T: DeserializeOwned>(name: &str, object: Object) -> Result<T, ObjectError> {
    T::deserialize(EnumAccessDeserializer::new(Named { name, what: &format!("`{name}`"), object }))
}

/// Deserializes a structure, whose keys serde passes.
struct Keys<'a> {
    what: &'a str,
    object: Object,
}

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = ObjectError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ObjectError> {
        match self.object.keys().find(|key| !fields.contains(&key.as_str())) {
            Some(key) => Err(ObjectError(format!("unknown key `{key}` of {}{}", self.what, hint(key, fields)))),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ObjectError> {
        visitor.visit_map(Values { rest: self.object.into_iter(), value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The remaining pairs, and the pair whose key was read last.
struct Values {
    rest: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Values {
    type Error = ObjectError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ObjectError> {
        self.value = self.rest.next();
        self.value.as_ref().map(|(key, _)| seed.deserialize(key.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ObjectError> {
        let (key, value) = self.value.take().ok_or_else(|| de::Error::custom("a value is read before its key"))?;
        seed.deserialize(value).map_err(|error| ObjectError(format!("`{key}`: {error}")))
    }
}

/// A variant's name and content.
struct Named<'a> {
    name: &'a str,
    what: &'a str,
    object: Object,
}

impl<'de, 'a> EnumAccess<'de> for Named<'a> {
    type Error = ObjectError;
    type Variant = Keys<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Keys<'a>), ObjectError> {
        let variant = seed.deserialize(self.name.into_deserializer())?;
        Ok((variant, Keys { what: self.what, object: self.object }))
    }
}

impl<'de> VariantAccess<'de> for Keys<'_> {
    type Error = ObjectError;

    fn unit_variant(self) -> Result<(), ObjectError> {
        Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ObjectError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ObjectError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, ObjectError> {
        self.deserialize_struct("", fields, visitor)
    }
}

/// A suggestion, or the list of known words.
fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!(", did you mean `{near}`?"),
        None if known.is_empty() => "; it has none".to_owned(),
        None => format!("; known are `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Asked {
        run: u64,
        #[serde(default)]
        wait_for_it: bool,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Either {
        One(Asked),
        TheOther { name: Option<String> },
    }

    fn object(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_known_is_read_and_what_may_be_left_out_is_filled_in() {
        assert_eq!(read("it", object(r#"{"run":7}"#)), Ok(Asked { run: 7, wait_for_it: false }));
        let one = Asked { run: 7, wait_for_it: true };
        assert_eq!(read_variant("one", object(r#"{"run":7,"wait_for_it":true}"#)), Ok(Either::One(one)));
        assert_eq!(read_variant("the_other", object(r#"{"name":null}"#)), Ok(Either::TheOther { name: None }));
    }

    #[test]
    fn an_unknown_word_is_told_with_the_nearest_known_one_and_a_wrong_value_with_its_key() {
        let told = |name: &str, text: &str| read_variant::<Either>(name, object(text)).unwrap_err().to_string();
        assert_eq!(
            told("one", r#"{"run":7,"wait-for-it":true}"#),
            "unknown key `wait-for-it` of `one`, did you mean `wait_for_it`?"
        );
        assert_eq!(told("one", r#"{"run":7,"color":1}"#), "unknown key `color` of `one`; known are `run`, `wait_for_it`");
        assert_eq!(told("the_other", r#"{"nam":"x"}"#), "unknown key `nam` of `the_other`, did you mean `name`?");
        assert_eq!(told("the_othr", "{}"), "unknown command `the_othr`, did you mean `the_other`?");
        assert_eq!(told("one", r#"{"run":"x"}"#), r#"`run`: invalid type: string "x", expected u64"#);
        assert_eq!(told("one", r#"{"run":1,"wait_for_it":1}"#), "`wait_for_it`: invalid type: integer `1`, expected a boolean");
        assert_eq!(told("one", "{}"), "missing field `run`");
        #[derive(Debug, Deserialize)]
        struct Nothing {}
        let told = read::<Nothing>("the body", object(r#"{"force":true}"#)).unwrap_err().to_string();
        assert_eq!(told, "unknown key `force` of the body; it has none");
    }
}
