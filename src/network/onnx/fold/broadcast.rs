//! Broadcasting: extents of the result, and which element of each operand belongs to which of the result.

use crate::network::onnx::constant::{product, strides};

/// Extents that all operands broadcast to.
pub fn extents(operands: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = operands.iter().map(|d| d.len()).max().unwrap_or(0);
    let mut dims = vec![1; rank];
    for operand in operands {
        let lead = rank - operand.len();
        for (to, &from) in dims[lead..].iter_mut().zip(*operand) {
            match (*to, from) {
                (_, 1) => {}
                (1, from) => *to = from,
                (to, from) if to == from => {}
                _ => return Err(format!("the shapes {operands:?} do not broadcast")),
            }
        }
    }
    Ok(dims)
}

/// Calls `visit` for every element of a tensor of extents `dims`, row-major, with the operand's element for it.
pub fn indices(dims: &[usize], operand: &[usize]) -> impl Iterator<Item = usize> {
    let lead = dims.len() - operand.len();
    let steps: Vec<usize> = (0..dims.len())
        .map(|axis| match axis.checked_sub(lead) {
            Some(i) if operand[i] != 1 => strides(operand)[i],
            _ => 0,
        })
        .collect();
    walk(dims.to_vec(), steps, 0)
}

/// Offsets `start + sum_i index_i * steps_i` over all indices, row-major.
pub fn walk(dims: Vec<usize>, steps: Vec<usize>, start: usize) -> impl Iterator<Item = usize> {
    let len = product(&dims).unwrap_or(0);
    let mut index = vec![0usize; dims.len()];
    let mut at = start;
    (0..len).map(move |_| {
        let now = at;
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at = at.wrapping_add(steps[axis]);
            if index[axis] < dims[axis] {
                break;
            }
            at = at.wrapping_sub(steps[axis].wrapping_mul(dims[axis]));
            index[axis] = 0;
        }
        now
    })
}
