//! Constants that are copied, counted or brought to another element type.

use super::{Budget, Call};
use crate::network::onnx::constant::{Constant, Data, Kind, index};
use crate::network::onnx::decode::decode;
use crate::tensor::memory::Watch;

/// The value of a node that changes types, or tells of shapes.
pub fn evaluate(call: &Call<'_>, budget: &mut Budget) -> Option<Result<Constant, String>> {
    let result = match call.op {
        "Identity" => call.input(0).and_then(|x| {
            budget.take(x.bytes())?;
            Ok(x.clone())
        }),
        "Cast" => call.input(0).and_then(|x| {
            let to = call.attributes.int("to").ok_or("its type is missing")?;
            cast(x, Kind::from_number(to)?, budget)
        }),
        "CastLike" => call
            .input(0)
            .and_then(|x| cast(x, call.input(1)?.kind, budget)),
        "Shape" => call.input(0).map(|x| {
            let part = |name| call.attributes.int(name);
            shape(&x.dims, part("start"), part("end"))
        }),
        "Size" => call.input(0).map(|x| Constant {
            dims: vec![],
            ..Constant::ints(vec![x.data.len() as i64])
        }),
        "ConstantOfShape" => filled(call, budget),
        "Range" => range(call, budget),
        _ => return None,
    };
    Some(result)
}

/// The extents `start..end`; negative ones count from the end.
pub fn shape(dims: &[usize], start: Option<i64>, end: Option<i64>) -> Constant {
    let at = |i: i64| {
        if i < 0 {
            dims.len().saturating_sub(i.unsigned_abs() as usize)
        } else {
            dims.len().min(i as usize)
        }
    };
    let (from, to) = (at(start.unwrap_or(0)), at(end.unwrap_or(i64::MAX)));
    let chosen = dims.get(from..to).unwrap_or_default();
    Constant::ints(chosen.iter().map(|&d| d as i64).collect())
}

/// The values in another type: floats are truncated to integers, integers keep their low bits.
pub fn cast(x: &Constant, to: Kind, budget: &mut Budget) -> Result<Constant, String> {
    budget.tensor(&x.dims, to)?;
    let whole = |v: f64| match to {
        Kind::Bool => i64::from(v != 0.0),
        _ => to.wrap(v as i64),
    };
    let data = match (&x.data, to) {
        (Data::Floats(v), Kind::F64) => Data::Doubles(v.iter().map(|&x| x.into()).collect()),
        (Data::Floats(v), to) if to.is_float() => {
            Data::Floats(v.iter().map(|&x| to.round(x)).collect())
        }
        (Data::Floats(v), _) => Data::Ints(v.iter().map(|&x| whole(x.into())).collect()),
        (Data::Doubles(v), Kind::F64) => Data::Doubles(v.clone()),
        (Data::Doubles(v), Kind::F16) => {
            Data::Floats(v.iter().map(|&x| half::f16::from_f64(x).to_f32()).collect())
        }
        (Data::Doubles(v), to) if to.is_float() => {
            Data::Floats(v.iter().map(|&x| to.round(x as f32)).collect())
        }
        (Data::Doubles(v), _) => Data::Ints(v.iter().map(|&x| whole(x)).collect()),
        (Data::Ints(v), Kind::F64) => Data::Doubles(v.iter().map(|&x| x as f64).collect()),
        (Data::Ints(v), to) if to.is_float() => {
            Data::Floats(v.iter().map(|&x| to.round(x as f32)).collect())
        }
        (Data::Ints(v), to) => Data::Ints(v.iter().map(|&x| to.wrap(x)).collect()),
    };
    Constant::new(to, x.dims.clone(), data)
}

/// `ConstantOfShape`: one value, 0 unless named, everywhere.
fn filled(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let dims = call.input(0)?.integers();
    let dims: Option<Vec<usize>> = dims
        .ok_or("its shape must hold integers")?
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect();
    let dims = dims.ok_or("an extent is negative")?;
    let value = match call.attributes.get("value").and_then(|a| a.t.as_ref()) {
        Some(tensor) => decode(tensor, None, &mut Watch::default())?,
        None => Constant::new(Kind::F32, vec![], Data::Floats(vec![0.0]))?,
    };
    if value.data.len() != 1 {
        return Err("its value must be one element".into());
    }
    budget.tensor(&dims, value.kind)?;
    let len = dims.iter().product();
    let data = value.data.pick(std::iter::repeat_n(0, len));
    Constant::new(value.kind, dims, data)
}

/// `Range`: `start, start + delta, ...` below the limit.
fn range(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let (start, limit, delta) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let kind = start.kind;
    let count = |n: f64| -> Result<usize, String> {
        let count = n.ceil().max(0.0);
        if count < 1e15 {
            Ok(count as usize)
        } else {
            Err("it has no end".into())
        }
    };
    let data = match (&start.data, &limit.data, &delta.data) {
        (Data::Ints(s), Data::Ints(l), Data::Ints(d)) => {
            let (&[s], &[l], &[d]) = (&s[..], &l[..], &d[..]) else {
                return Err("its limits must be single numbers".into());
            };
            if d == 0 {
                return Err("its step is 0".into());
            }
            let count = count((l as f64 - s as f64) / d as f64)?;
            budget.tensor(&[count], kind)?;
            let at = |i: usize| kind.wrap(s.wrapping_add(d.wrapping_mul(i as i64)));
            Data::Ints((0..count).map(at).collect())
        }
        (Data::Floats(s), Data::Floats(l), Data::Floats(d)) => {
            let (&[s], &[l], &[d]) = (&s[..], &l[..], &d[..]) else {
                return Err("its limits must be single numbers".into());
            };
            let count = count((f64::from(l) - f64::from(s)) / f64::from(d))?;
            budget.tensor(&[count], kind)?;
            Data::Floats((0..count).map(|i| kind.round(s + d * i as f32)).collect())
        }
        _ => return Err("its limits must be integers or floats, all alike".into()),
    };
    let len = data.len();
    Constant::new(kind, vec![len], data)
}

/// The axis attribute as a number from 0.
pub fn axis(call: &Call<'_>, rank: usize, default: Option<i64>) -> Result<usize, String> {
    let axis = call.attributes.int("axis").or(default);
    let axis = axis.ok_or("axis is missing")?;
    index(axis, rank).ok_or_else(|| format!("axis {axis} of {rank}"))
}
