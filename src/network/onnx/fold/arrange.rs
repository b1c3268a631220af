//! Constants in another arrangement: reshaped, transposed, cut, joined, repeated.

use super::broadcast::{extents, indices, walk};
use super::types::axis;
use super::{Budget, Call};
use crate::network::onnx::constant::{
    Constant, Data, index, normalize_axes, order, product, reshaped, squeezed, unsqueezed,
};

/// The value of a node that moves elements.
pub fn evaluate(call: &Call<'_>, budget: &mut Budget) -> Option<Result<Constant, String>> {
    let x = match call.input(0) {
        Ok(x) => x,
        Err(e) => return Some(Err(e)),
    };
    let result = match call.op {
        "Reshape" => call.list(1, "shape").and_then(|target| {
            let zeros = call.attributes.flag("allowzero");
            let target = target.ok_or("its shape is missing")?;
            relabelled(x, reshaped(&x.dims, target, zeros)?, budget)
        }),
        "Flatten" => flatten(call, x, budget),
        "Squeeze" => call.list(1, "axes").and_then(|axes| {
            let dims = squeezed(&x.dims, axes)?;
            relabelled(x, dims, budget)
        }),
        "Unsqueeze" => call.list(1, "axes").and_then(|axes| {
            let dims = unsqueezed(&x.dims, axes.ok_or("its axes are missing")?)?;
            relabelled(x, dims, budget)
        }),
        "Transpose" => order(call.attributes.ints("perm"), x.dims.len()).and_then(|perm| {
            let strides = x.strides();
            let dims = perm.iter().map(|&p| x.dims[p]).collect();
            picked(
                x,
                dims,
                perm.iter().map(|&p| strides[p]).collect(),
                0,
                budget,
            )
        }),
        "Expand" => call.list(1, "").and_then(|shape| {
            let shape: Option<Vec<usize>> = shape
                .ok_or("its shape is missing")?
                .iter()
                .map(|&d| usize::try_from(d).ok())
                .collect();
            let dims = extents(&[&x.dims, &shape.ok_or("an extent is negative")?])?;
            budget.tensor(&dims, x.kind)?;
            let data = x.data.pick(indices(&dims, &x.dims));
            Constant::new(x.kind, dims, data)
        }),
        "Tile" => tile(call, x, budget),
        "Slice" => slice(call, x, budget),
        "Gather" => gather(call, x, budget),
        "Concat" => concat(call, budget),
        _ => return None,
    };
    Some(result)
}

fn relabelled(x: &Constant, dims: Vec<usize>, budget: &mut Budget) -> Result<Constant, String> {
    budget.take(x.bytes())?;
    x.with_dims(dims)
}

/// Elements at `start + sum_i index_i * steps_i`.
fn picked(
    x: &Constant,
    dims: Vec<usize>,
    steps: Vec<usize>,
    start: usize,
    budget: &mut Budget,
) -> Result<Constant, String> {
    budget.tensor(&dims, x.kind)?;
    let data = x.data.pick(walk(dims.clone(), steps, start));
    Constant::new(x.kind, dims, data)
}

fn flatten(call: &Call<'_>, x: &Constant, budget: &mut Budget) -> Result<Constant, String> {
    let rank = x.dims.len();
    let at = call.attributes.int("axis").unwrap_or(1);
    let at = match at {
        at if at == rank as i64 => rank,
        at => index(at, rank).ok_or_else(|| format!("axis {at} of {rank}"))?,
    };
    let size = |dims: &[usize]| product(dims).ok_or("the extents are too large");
    let dims = vec![size(&x.dims[..at])?, size(&x.dims[at..])?];
    relabelled(x, dims, budget)
}

fn tile(call: &Call<'_>, x: &Constant, budget: &mut Budget) -> Result<Constant, String> {
    let repeats = call.list(1, "")?.ok_or("its repeats are missing")?;
    if repeats.len() != x.dims.len() {
        return Err(format!(
            "{} repeats for {} axes",
            repeats.len(),
            x.dims.len()
        ));
    }
    // Extents [r0, d0, r1, d1, ...] with the repeats standing still.
    let strides = x.strides();
    let (mut dims, mut steps, mut to) = (Vec::new(), Vec::new(), Vec::new());
    for ((&r, &d), &s) in repeats.iter().zip(&x.dims).zip(&strides) {
        let r = usize::try_from(r).map_err(|_| format!("{r} repeats"))?;
        dims.extend([r, d]);
        steps.extend([0, s]);
        to.push(r.checked_mul(d).ok_or("the extents are too large")?);
    }
    Constant {
        dims: to,
        ..picked(x, dims, steps, 0, budget)?
    }
    .checked()
}

impl Constant {
    fn checked(self) -> Result<Self, String> {
        Self::new(self.kind, self.dims, self.data)
    }
}

/// `Slice`: starts, ends, axes and steps as inputs, or as attributes in older operator sets.
fn slice(call: &Call<'_>, x: &Constant, budget: &mut Budget) -> Result<Constant, String> {
    let starts = call.list(1, "starts")?.ok_or("starts are missing")?;
    let ends = call.list(2, "ends")?.ok_or("ends are missing")?;
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = normalize_axes(call.list(3, "axes")?.unwrap_or(&all), x.dims.len())?;
    let ones = vec![1; starts.len()];
    let steps = call.list(4, "steps")?.unwrap_or(&ones);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in number".into());
    }
    let strides = x.strides();
    let (mut dims, mut walks, mut start) = (x.dims.clone(), strides.clone(), 0usize);
    for (i, &axis) in axes.iter().enumerate() {
        let (first, count) = span(x.dims[axis], starts[i], ends[i], steps[i])?;
        dims[axis] = count;
        start += first * strides[axis];
        walks[axis] = (strides[axis] as i64).wrapping_mul(steps[i]) as usize;
    }
    if dims.contains(&0) {
        start = 0;
    }
    picked(x, dims, walks, start, budget)
}

/// First index and number of indices of `start..end` by `step` in `len` entries.
pub fn span(len: usize, start: i64, end: i64, step: i64) -> Result<(usize, usize), String> {
    if step == 0 {
        return Err("its step is 0".into());
    }
    let len = i64::try_from(len).map_err(|_| "the extents are too large")?;
    let from_end = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let start = from_end(start).clamp(lowest.max(0), highest.max(0));
    let end = from_end(end).clamp(lowest, highest);
    let distance = if step > 0 { end - start } else { start - end };
    let step = step.unsigned_abs();
    let count = u64::try_from(distance).unwrap_or(0).div_ceil(step);
    Ok((start as usize, if len == 0 { 0 } else { count as usize }))
}

fn gather(call: &Call<'_>, x: &Constant, budget: &mut Budget) -> Result<Constant, String> {
    let wanted = call.input(1)?;
    let axis = axis(call, x.dims.len(), Some(0))?;
    let entries: Option<Vec<usize>> = wanted
        .integers()
        .ok_or("indices must be integers")?
        .iter()
        .map(|&i| index(i, x.dims[axis]))
        .collect();
    let entries = entries.ok_or("an index is out of range")?;
    let (before, after) = (&x.dims[..axis], &x.dims[axis + 1..]);
    let dims = [before, &wanted.dims[..], after].concat();
    budget.tensor(&dims, x.kind)?;
    let inner = product(after).unwrap_or(0);
    let outer = product(before).unwrap_or(0);
    let len = x.dims[axis];
    let at = (0..outer).flat_map(|o| {
        let entries = entries.iter();
        entries.flat_map(move |e| (0..inner).map(move |i| (o * len + e) * inner + i))
    });
    let data = x.data.pick(at);
    Constant::new(x.kind, dims, data)
}

fn concat(call: &Call<'_>, budget: &mut Budget) -> Result<Constant, String> {
    let parts: Vec<&Constant> = (0..call.inputs.len())
        .map(|i| call.input(i))
        .collect::<Result<_, _>>()?;
    let first = *parts.first().ok_or("it has no inputs")?;
    let axis = axis(call, first.dims.len(), None)?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for part in &parts {
        let apart = |i: usize| i != axis && part.dims[i] != first.dims[i];
        if part.dims.len() != dims.len() || part.kind != first.kind || (0..dims.len()).any(apart) {
            return Err(format!(
                "joins {:?} of {:?} with {:?} of {:?} along axis {axis}",
                first.kind, first.dims, part.kind, part.dims
            ));
        }
        let sum = dims[axis].checked_add(part.dims[axis]);
        dims[axis] = sum.ok_or("the extents are too large")?;
    }
    budget.tensor(&dims, first.kind)?;
    let outer = product(&dims[..axis]).unwrap_or(0);
    let chunk = |part: &Constant| product(&part.dims[axis..]).unwrap_or(0);
    macro_rules! join {
        ($variant:ident) => {{
            let mut values = Vec::with_capacity(product(&dims).unwrap_or(0));
            for o in 0..outer {
                for part in &parts {
                    if let Data::$variant(v) = &part.data {
                        values.extend_from_slice(&v[o * chunk(part)..(o + 1) * chunk(part)]);
                    }
                }
            }
            Data::$variant(values)
        }};
    }
    let data = match first.data {
        Data::Floats(_) => join!(Floats),
        Data::Doubles(_) => join!(Doubles),
        Data::Ints(_) => join!(Ints),
    };
    Constant::new(first.kind, dims, data)
}

/// `Split` into parts along an axis: of the sizes given, or of one size, the last one smaller.
pub fn split(call: &Call<'_>, budget: &mut Budget) -> Result<Vec<Constant>, String> {
    let x = call.input(0)?;
    let axis = axis(call, x.dims.len(), Some(0))?;
    let sizes = parts(x.dims[axis], call.list(1, "split")?, call.outputs)?;
    let strides = x.strides();
    let mut start = 0;
    let mut found = Vec::new();
    for size in sizes {
        let mut dims = x.dims.clone();
        dims[axis] = size;
        let from = if product(&dims) == Some(0) {
            0
        } else {
            start * strides[axis]
        };
        found.push(picked(x, dims, strides.clone(), from, budget)?);
        start += size;
    }
    Ok(found)
}

/// Sizes of the parts of a `Split` of `len` entries.
pub fn parts(len: usize, sizes: Option<&[i64]>, outputs: usize) -> Result<Vec<usize>, String> {
    let sizes: Vec<usize> = match sizes {
        Some(sizes) => sizes
            .iter()
            .map(|&s| usize::try_from(s).map_err(|_| format!("a part of {s} entries")))
            .collect::<Result<_, _>>()?,
        None => {
            let each = len.div_ceil(outputs.max(1));
            let start = |i: usize| (i * each).min(len);
            (0..outputs).map(|i| start(i + 1) - start(i)).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |a, &s| a.checked_add(s));
    if sum != Some(len) || sizes.len() != outputs {
        return Err(format!("{len} entries do not split into {sizes:?}"));
    }
    Ok(sizes)
}
