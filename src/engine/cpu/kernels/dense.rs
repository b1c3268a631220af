//! Panels times one vector: the arithmetic of dense layers.

use super::lanes::{Lanes, between};
use super::packed::PANEL;
use crate::network::Activation;

/// `out[i] = activation(bias[i] + sum over t of weight[i / PANEL][t][i % PANEL] * x[t])`
pub struct Dense<'a, T> {
    /// The vector.
    pub x: &'a [T],
    /// `[out.len() / PANEL, rounded up][x.len()][PANEL]`
    pub weight: &'a [T],
    /// As long as [`Dense::out`].
    pub bias: &'a [T],
    /// The product.
    pub out: &'a mut [T],
    /// Applied at the end.
    pub activation: Activation,
}

/// Panels at a time: sums that wait for nothing but themselves.
const TOGETHER: usize = 8;

/// Computes the product.
///
/// # Safety
/// The processor has the instruction set.
///
/// # Panics
/// Where weights or biases are missing.
#[inline(always)]
pub unsafe fn dense<V: Lanes>(dense: &mut Dense<'_, V::Item>) {
    const { assert!(PANEL.is_multiple_of(V::LEN)) }
    let panels = dense.out.len().div_ceil(PANEL);
    assert!(dense.weight.len() >= panels * dense.x.len() * PANEL);
    assert!(dense.bias.len() == dense.out.len());
    let mut panel = 0;
    while panel < panels {
        // SAFETY: the caller's, and the assertions.
        unsafe {
            if panel + TOGETHER <= panels {
                some::<V, TOGETHER>(dense, panel);
                panel += TOGETHER;
            } else {
                some::<V, 1>(dense, panel);
                panel += 1;
            }
        }
    }
}

/// `N` panels from `panel` on.
#[inline(always)]
unsafe fn some<V: Lanes, const N: usize>(dense: &mut Dense<'_, V::Item>, panel: usize) {
    let (size, len) = (dense.x.len() * PANEL, dense.out.len());
    let out = dense.out.as_mut_ptr();
    for part in (0..PANEL).step_by(V::LEN) {
        let row = |p: usize| (panel + p) * PANEL + part;
        let rows = |p: usize| len.saturating_sub(row(p)).min(V::LEN);
        // SAFETY: `rows` biases and outputs exist, as do all weights of a panel.
        unsafe {
            let mut sums: [V; N] = std::array::from_fn(|p| {
                V::load_masked(
                    dense.bias.as_ptr().wrapping_add(row(p)),
                    V::mask(between(0, rows(p))),
                )
            });
            let mut weight = dense.weight.as_ptr().add(panel * size + part);
            for &x in dense.x {
                let x = V::splat(x);
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add_product(V::load(weight.add(p * size)), x);
                }
                weight = weight.wrapping_add(PANEL);
            }
            for (p, sum) in sums.into_iter().enumerate() {
                let n = rows(p);
                if n > 0 {
                    let sum = sum.activated(dense.activation);
                    sum.store_first(out.add(row(p)), n);
                }
            }
        }
    }
}
