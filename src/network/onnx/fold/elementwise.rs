//! Arithmetic, comparisons and functions, element by element.

use super::broadcast::{extents, indices};
use super::{Budget, Call};
use crate::network::onnx::constant::{Constant, Data, Kind};

/// A function of two operands for each kind of element; integers may have no result (division by zero).
#[derive(Clone, Copy)]
struct Binary {
    float: fn(f32, f32) -> f32,
    double: fn(f64, f64) -> f64,
    int: fn(i64, i64) -> Option<i64>,
}

/// A function of one operand; integers where it is defined for them.
#[derive(Clone, Copy)]
struct Unary {
    float: fn(f32) -> f32,
    double: fn(f64) -> f64,
    int: Option<fn(i64) -> i64>,
}

/// A comparison.
#[derive(Clone, Copy)]
struct Relation {
    float: fn(f64, f64) -> bool,
    int: fn(i64, i64) -> bool,
}

macro_rules! binary {
    ($f:expr, $int:expr) => {
        Some(Binary {
            float: |a, b| $f(a, b),
            double: |a, b| $f(a, b),
            int: $int,
        })
    };
}

macro_rules! unary {
    ($f:expr, $int:expr) => {
        Some(Unary {
            float: |x| $f(x),
            double: |x| $f(x),
            int: $int,
        })
    };
}

macro_rules! relation {
    ($op:tt) => {
        Some(Relation { float: |a, b| a $op b, int: |a, b| a $op b })
    };
}

/// The larger one; NaN where either is.
fn larger<T: PartialOrd + Copy>(a: T, b: T) -> T {
    #[allow(clippy::eq_op)]
    let nan = a != a;
    if nan || a > b { a } else { b }
}

/// The smaller one; NaN where either is.
fn smaller<T: PartialOrd + Copy>(a: T, b: T) -> T {
    #[allow(clippy::eq_op)]
    let nan = a != a;
    if nan || a < b { a } else { b }
}

fn binary(op: &str) -> Option<Binary> {
    use std::ops::{Add, Div, Mul, Sub};
    match op {
        "Add" | "Sum" => binary!(Add::add, |a, b| Some(a.wrapping_add(b))),
        "Sub" => binary!(Sub::sub, |a, b| Some(a.wrapping_sub(b))),
        "Mul" => binary!(Mul::mul, |a, b| Some(a.wrapping_mul(b))),
        "Div" => binary!(Div::div, |a, b| (b != 0).then(|| a.wrapping_div(b))),
        "Max" => binary!(larger, |a, b| Some(a.max(b))),
        "Min" => binary!(smaller, |a, b| Some(a.min(b))),
        "Pow" => Some(Binary {
            float: f32::powf,
            double: f64::powf,
            int: |a, b| a.checked_pow(u32::try_from(b).ok()?),
        }),
        "And" => binary!(smaller, |a, b| Some(a & b)),
        "Or" => binary!(larger, |a, b| Some(a | b)),
        "Xor" => binary!(larger, |a, b| Some(a ^ b)),
        _ => None,
    }
}

/// `Mod`: the sign of the divisor, or with `fmod` that of the dividend.
fn modulo(fmod: bool) -> Binary {
    if fmod {
        Binary {
            float: |a, b| a % b,
            double: |a, b| a % b,
            int: |a, b| (b != 0).then(|| a.wrapping_rem(b)),
        }
    } else {
        Binary {
            float: |_, _| f32::NAN,
            double: |_, _| f64::NAN,
            int: |a, b| {
                let rest = (b != 0).then(|| a.wrapping_rem(b))?;
                Some(if rest != 0 && (rest < 0) != (b < 0) {
                    rest + b
                } else {
                    rest
                })
            },
        }
    }
}

fn unary(op: &str) -> Option<Unary> {
    use std::ops::Neg;
    match op {
        "Neg" => unary!(Neg::neg, Some(i64::wrapping_neg)),
        "Abs" => Some(Unary {
            float: f32::abs,
            double: f64::abs,
            int: Some(i64::wrapping_abs),
        }),
        "Sqrt" => Some(floats(f32::sqrt, f64::sqrt)),
        "Exp" => Some(floats(f32::exp, f64::exp)),
        "Log" => Some(floats(f32::ln, f64::ln)),
        "Floor" => Some(floats(f32::floor, f64::floor)),
        "Ceil" => Some(floats(f32::ceil, f64::ceil)),
        "Round" => Some(floats(f32::round_ties_even, f64::round_ties_even)),
        "Tanh" => Some(floats(f32::tanh, f64::tanh)),
        "Reciprocal" => Some(floats(f32::recip, f64::recip)),
        "Sigmoid" => Some(floats(
            |x| 1.0 / (1.0 + (-x).exp()),
            |x| 1.0 / (1.0 + (-x).exp()),
        )),
        "Relu" => unary!(|x| larger(x, Default::default()), Some(|x| x.max(0))),
        "Sign" => Some(Unary {
            float: |x| if x == 0.0 { 0.0 } else { x.signum() },
            double: |x| if x == 0.0 { 0.0 } else { x.signum() },
            int: Some(i64::signum),
        }),
        _ => None,
    }
}

fn floats(float: fn(f32) -> f32, double: fn(f64) -> f64) -> Unary {
    Unary {
        float,
        double,
        int: None,
    }
}

fn relation(op: &str) -> Option<Relation> {
    match op {
        "Equal" => relation!(==),
        "Less" => relation!(<),
        "Greater" => relation!(>),
        "LessOrEqual" => relation!(<=),
        "GreaterOrEqual" => relation!(>=),
        _ => None,
    }
}

/// The value of an elementwise node.
pub fn evaluate(call: &Call<'_>, budget: &mut Budget) -> Option<Result<Constant, String>> {
    let result = match call.op {
        "Where" => select(call, budget),
        "Clip" => clip(call, budget),
        "Mean" => fold(call, binary("Add")?, budget).and_then(|sum| {
            let count = Constant {
                kind: sum.kind,
                dims: vec![],
                data: match sum.kind {
                    Kind::F64 => Data::Doubles(vec![call.inputs.len() as f64]),
                    _ => Data::Floats(vec![call.inputs.len() as f32]),
                },
            };
            combine(&sum, &count, binary("Div").ok_or("")?, budget)
        }),
        "Mod" => fold(call, modulo(call.attributes.flag("fmod")), budget),
        "Not" => call.input(0).and_then(|x| match x.kind {
            Kind::Bool => apply(
                x,
                Unary {
                    int: Some(|x| 1 - x),
                    ..floats(|x| x, |x| x)
                },
                budget,
            ),
            _ => Err("its input must hold truth values".into()),
        }),
        op => {
            if let Some(f) = binary(op) {
                fold(call, f, budget)
            } else if let Some(f) = unary(op) {
                call.input(0).and_then(|x| apply(x, f, budget))
            } else if let Some(f) = relation(op) {
                compare(call, f, budget)
            } else {
                return None;
            }
        }
    };
    Some(result)
}

/// All operands combined from the left.
fn fold(call: &Call<'_>, f: Binary, budget: &mut Budget) -> Result<Constant, String> {
    let first = call.input(0)?;
    if call.inputs.len() == 1 {
        budget.take(first.bytes())?;
        return Ok(first.clone());
    }
    let mut result: Option<Constant> = None;
    for i in 1..call.inputs.len() {
        let (left, right) = (result.as_ref().unwrap_or(first), call.input(i)?);
        let next = if call.op == "Pow" && left.kind != right.kind {
            combine(
                left,
                &super::types::cast(right, left.kind, budget)?,
                f,
                budget,
            )?
        } else {
            combine(left, right, f, budget)?
        };
        result = Some(next);
    }
    result.ok_or_else(|| "it has no inputs".into())
}

fn same_kind(a: &Constant, b: &Constant) -> Result<Kind, String> {
    if a.kind == b.kind {
        Ok(a.kind)
    } else {
        Err(format!(
            "its operands have the types {:?} and {:?}",
            a.kind, b.kind
        ))
    }
}

fn combine(a: &Constant, b: &Constant, f: Binary, budget: &mut Budget) -> Result<Constant, String> {
    let kind = same_kind(a, b)?;
    let dims = extents(&[&a.dims, &b.dims])?;
    budget.tensor(&dims, kind)?;
    let pairs = indices(&dims, &a.dims).zip(indices(&dims, &b.dims));
    let data = match (&a.data, &b.data) {
        (Data::Floats(x), Data::Floats(y)) => Data::Floats(
            pairs
                .map(|(i, j)| kind.round((f.float)(x[i], y[j])))
                .collect(),
        ),
        (Data::Doubles(x), Data::Doubles(y)) => {
            Data::Doubles(pairs.map(|(i, j)| (f.double)(x[i], y[j])).collect())
        }
        (Data::Ints(x), Data::Ints(y)) => Data::Ints(
            pairs
                .map(|(i, j)| (f.int)(x[i], y[j]).map(|v| kind.wrap(v)))
                .collect::<Option<_>>()
                .ok_or("divides integers by zero, or overflows")?,
        ),
        _ => return Err("its operands are of different types".into()),
    };
    Ok(Constant { kind, dims, data })
}

fn compare(call: &Call<'_>, f: Relation, budget: &mut Budget) -> Result<Constant, String> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    same_kind(a, b)?;
    let dims = extents(&[&a.dims, &b.dims])?;
    budget.tensor(&dims, Kind::Bool)?;
    let pairs = indices(&dims, &a.dims).zip(indices(&dims, &b.dims));
    let holds: Vec<i64> = match (&a.data, &b.data) {
        (Data::Floats(x), Data::Floats(y)) => pairs
            .map(|(i, j)| (f.float)(x[i].into(), y[j].into()).into())
            .collect(),
        (Data::Doubles(x), Data::Doubles(y)) => {
            pairs.map(|(i, j)| (f.float)(x[i], y[j]).into()).collect()
        }
        (Data::Ints(x), Data::Ints(y)) => pairs.map(|(i, j)| (f.int)(x[i], y[j]).into()).collect(),
        _ => return Err("its operands are of different types".into()),
    };
    Constant::new(Kind::Bool, dims, Data::Ints(holds))
}

fn apply(x: &Constant, f: Unary, budget: &mut Budget) -> Result<Constant, String> {
    budget.take(x.bytes())?;
    let data = match &x.data {
        Data::Floats(v) => Data::Floats(v.iter().map(|&x0| x.kind.round((f.float)(x0))).collect()),
        Data::Doubles(v) => Data::Doubles(v.iter().map(|&x0| (f.double)(x0)).collect()),
        Data::Ints(v) => {
            let f = f.int.ok_or("it is not defined for integers")?;
            Data::Ints(v.iter().map(|&x0| x.kind.wrap(f(x0))).collect())
        }
    };
    Constant::new(x.kind, x.dims.clone(), data)
}

/// `Where`: the first of two where the condition holds, else the second.
fn select(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let (condition, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let kind = same_kind(a, b)?;
    let holds = condition
        .integers()
        .filter(|_| condition.kind == Kind::Bool)
        .ok_or("its condition must hold truth values")?;
    let dims = extents(&[&condition.dims, &a.dims, &b.dims])?;
    budget.tensor(&dims, kind)?;
    let triples = indices(&dims, &condition.dims)
        .zip(indices(&dims, &a.dims))
        .zip(indices(&dims, &b.dims));
    fn choose<T: Copy>(
        triples: impl Iterator<Item = ((usize, usize), usize)>,
        holds: &[i64],
        x: &[T],
        y: &[T],
    ) -> Vec<T> {
        triples
            .map(|((c, i), j)| if holds[c] != 0 { x[i] } else { y[j] })
            .collect()
    }
    let data = match (&a.data, &b.data) {
        (Data::Floats(x), Data::Floats(y)) => Data::Floats(choose(triples, holds, x, y)),
        (Data::Doubles(x), Data::Doubles(y)) => Data::Doubles(choose(triples, holds, x, y)),
        (Data::Ints(x), Data::Ints(y)) => Data::Ints(choose(triples, holds, x, y)),
        _ => return Err("its operands are of different types".into()),
    };
    Ok(Constant { kind, dims, data })
}

/// `Clip` between limits that are inputs, or attributes in older operator sets.
fn clip(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let x = call.input(0)?;
    let limit = |i: usize, name: &str| -> Result<Option<Constant>, String> {
        if let Some(c) = call.optional(i) {
            return Ok(Some(c.clone()));
        }
        let value = call.attributes.float(name);
        let constant = |v: f32| Constant::new(Kind::F32, vec![], Data::Floats(vec![v]));
        value.map(constant).transpose()
    };
    let mut result: Option<Constant> = None;
    for (limit, op) in [(limit(1, "min")?, "Max"), (limit(2, "max")?, "Min")] {
        if let (Some(limit), Some(f)) = (limit, binary(op)) {
            result = Some(combine(result.as_ref().unwrap_or(x), &limit, f, budget)?);
        }
    }
    match result {
        Some(result) => Ok(result),
        None => {
            budget.take(x.bytes())?;
            Ok(x.clone())
        }
    }
}
