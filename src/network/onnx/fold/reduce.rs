//! Sums, means, products and extremes of constants over axes, and products of constant matrices.

use super::broadcast::walk;
use super::{Budget, Call};
use crate::network::onnx::constant::{Constant, Data, normalize_axes, product};

/// Most multiplications in a product of constant matrices.
const LARGEST_PRODUCT: usize = 1 << 30;

/// The value of a reducing node.
pub fn evaluate(call: &Call<'_>, budget: &mut Budget) -> Option<Result<Constant, String>> {
    let result = match call.op {
        "ReduceSum" | "ReduceMean" | "ReduceProd" | "ReduceMax" | "ReduceMin"
        | "ReduceSumSquare" | "ReduceL2" => reduce(call, budget),
        "MatMul" => matmul(call, budget),
        _ => return None,
    };
    Some(result)
}

fn reduce(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let x = call.input(0)?;
    let rank = x.dims.len();
    let axes = match call.list(1, "axes")? {
        Some(axes) if !axes.is_empty() => normalize_axes(axes, rank)?,
        _ if call.attributes.flag("noop_with_empty_axes") => {
            budget.take(x.bytes())?;
            return Ok(x.clone());
        }
        _ => (0..rank).collect(),
    };
    let keep = call.attributes.int("keepdims") != Some(0);
    let strides = x.strides();
    let choose = |inside: bool| -> (Vec<usize>, Vec<usize>) {
        (0..rank)
            .filter(|a| axes.contains(a) == inside)
            .map(|a| (x.dims[a], strides[a]))
            .unzip()
    };
    let ((outer, outer_steps), (inner, inner_steps)) = (choose(false), choose(true));
    let dims: Vec<usize> = if keep {
        (0..rank)
            .map(|a| if axes.contains(&a) { 1 } else { x.dims[a] })
            .collect()
    } else {
        outer.clone()
    };
    budget.tensor(&dims, x.kind)?;
    let count = product(&inner).unwrap_or(0);
    if count == 0 {
        return Err("reduces an axis without entries".into());
    }
    let groups = walk(outer, outer_steps, 0);
    let group = |start: usize| walk(inner.clone(), inner_steps.clone(), start);
    let float = |v: &mut dyn Iterator<Item = f64>| -> f64 {
        match call.op {
            "ReduceProd" => v.product(),
            "ReduceMax" => v.fold(f64::NEG_INFINITY, f64::max),
            "ReduceMin" => v.fold(f64::INFINITY, f64::min),
            "ReduceMean" => v.sum::<f64>() / count as f64,
            "ReduceSumSquare" => v.map(|x| x * x).sum(),
            "ReduceL2" => v.map(|x| x * x).sum::<f64>().sqrt(),
            _ => v.sum(),
        }
    };
    let data = match &x.data {
        Data::Floats(v) => Data::Floats(
            groups
                .map(|g| {
                    x.kind
                        .round(float(&mut group(g).map(|i| v[i].into())) as f32)
                })
                .collect(),
        ),
        Data::Doubles(v) => {
            Data::Doubles(groups.map(|g| float(&mut group(g).map(|i| v[i]))).collect())
        }
        Data::Ints(v) => {
            let int = |g: usize| -> Option<i64> {
                let values = group(g).map(|i| v[i]);
                match call.op {
                    "ReduceProd" => Some(values.fold(1, i64::wrapping_mul)),
                    "ReduceMax" => values.max(),
                    "ReduceMin" => values.min(),
                    "ReduceSum" => Some(values.fold(0, i64::wrapping_add)),
                    "ReduceMean" => Some(values.fold(0, i64::wrapping_add) / count as i64),
                    _ => None,
                }
            };
            let values: Option<Vec<i64>> = groups.map(|g| Some(x.kind.wrap(int(g)?))).collect();
            Data::Ints(values.ok_or("it is not defined for integers")?)
        }
    };
    Constant::new(x.kind, dims, data)
}

/// The product of two constant matrices of floats.
fn matmul(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (&[n, k], &[l, m]) = (&a.dims[..], &b.dims[..]) else {
        return Err("only matrices are multiplied among constants".into());
    };
    let work = n.checked_mul(k).and_then(|nk| nk.checked_mul(m));
    if a.kind != b.kind || k != l || !a.kind.is_float() || work.is_none_or(|w| w > LARGEST_PRODUCT)
    {
        return Err(format!(
            "constants of {:?} and {:?} cannot be multiplied",
            a.dims, b.dims
        ));
    }
    budget.tensor(&[n, m], a.kind)?;
    let wide = |c: &Constant, i: usize| match &c.data {
        Data::Floats(v) => f64::from(v[i]),
        Data::Doubles(v) => v[i],
        Data::Ints(v) => v[i] as f64,
    };
    let entry = |at: usize| -> f64 {
        let (row, column) = (at / m, at % m);
        let terms = (0..k).map(|i| wide(a, row * k + i) * wide(b, i * m + column));
        terms.sum()
    };
    let values = (0..n * m).map(entry);
    let data = match a.data {
        Data::Doubles(_) => Data::Doubles(values.collect()),
        _ => Data::Floats(values.map(|v| a.kind.round(v as f32)).collect()),
    };
    Constant::new(a.kind, vec![n, m], data)
}
