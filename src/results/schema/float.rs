//! JSON has no infinities: non-finite numbers are the strings `"inf"`, `"-inf"` and `"nan"`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Repr {
    Number(f64),
    Name(String),
}

fn repr(value: f64) -> Repr {
    if value.is_finite() {
        Repr::Number(value)
    } else if value.is_nan() {
        Repr::Name("nan".to_string())
    } else {
        Repr::Name(if value > 0.0 { "inf" } else { "-inf" }.to_string())
    }
}

fn value<E: Error>(repr: Repr) -> Result<f64, E> {
    match repr {
        Repr::Number(v) => Ok(v),
        Repr::Name(name) => match name.as_str() {
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            "nan" => Ok(f64::NAN),
            _ => Err(E::custom(format!(
                "{name:?}: expected a number, \"inf\", \"-inf\" or \"nan\""
            ))),
        },
    }
}

pub fn serialize<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    repr(*v).serialize(s)
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    value(Repr::deserialize(d)?)
}

pub mod option {
    use super::*;

    pub fn serialize<S: Serializer>(v: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
        v.map(repr).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
        Option::<Repr>::deserialize(d)?.map(value).transpose()
    }
}
