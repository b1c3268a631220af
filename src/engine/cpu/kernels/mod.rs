//! Products of a packed matrix with rows that lie anywhere: the arithmetic of convolutions and dense layers.
//!
//! Every element of a product is one chain of fused additions in the order of its terms, begun with the bias. So it
//! is the same bits however the work is cut into tiles, blocks and threads.

mod dense;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod packed;
pub mod portable;
mod tile;
mod window;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dense::Dense;
pub use packed::{PANEL, Packed};
pub use tile::{Gather, Move, Step, Tiles};
pub use window::Window;

/// A number type with kernels for every instruction set.
pub trait Tiled: Copy + 'static {
    /// The ones for the widest registers of this processor.
    fn tiles() -> &'static Tiles<Self>;
}

macro_rules! tiled {
    ($t:ident, $avx512:ident, $avx2:ident, $neon:ident) => {
        impl Tiled for $t {
            fn tiles() -> &'static Tiles<Self> {
                static PORTABLE: Tiles<$t> = portable::tiles();
                #[cfg(target_arch = "x86_64")]
                {
                    static AVX512: Tiles<$t> = x86::$avx512();
                    static AVX2: Tiles<$t> = x86::$avx2();
                    if is_x86_feature_detected!("avx512f") {
                        return &AVX512;
                    }
                    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                        return &AVX2;
                    }
                }
                #[cfg(target_arch = "aarch64")]
                {
                    static NEON: Tiles<$t> = neon::$neon();
                    if std::arch::is_aarch64_feature_detected!("neon") {
                        return &NEON;
                    }
                }
                &PORTABLE
            }
        }
    };
}

tiled!(f32, avx512_f32, avx2_f32, f32_tiles);
tiled!(f64, avx512_f64, avx2_f64, f64_tiles);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Activation;
    use proptest::prelude::*;

    trait Testable: Tiled + Default + PartialEq + std::fmt::Debug + From<f32> {
        /// All that this processor can run.
        fn every() -> Vec<Tiles<Self>>;
        fn add_product(self, a: Self, b: Self, fused: bool) -> Self;
    }

    macro_rules! testable {
        ($t:ident, $avx512:ident, $avx2:ident, $neon:ident) => {
            impl Testable for $t {
                #[allow(unused_mut)]
                fn every() -> Vec<Tiles<Self>> {
                    let mut found = vec![portable::tiles()];
                    #[cfg(target_arch = "x86_64")]
                    {
                        if is_x86_feature_detected!("avx512f") {
                            found.push(x86::$avx512());
                        }
                        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                            found.push(x86::$avx2());
                        }
                    }
                    #[cfg(target_arch = "aarch64")]
                    found.push(neon::$neon());
                    found
                }
                fn add_product(self, a: Self, b: Self, fused: bool) -> Self {
                    if fused {
                        a.mul_add(b, self)
                    } else {
                        self + a * b
                    }
                }
            }
        };
    }
    testable!(f32, avx512_f32, avx2_f32, f32_tiles);
    testable!(f64, avx512_f64, avx2_f64, f64_tiles);

    fn number(i: usize) -> f32 {
        let mixed = (i as u32 + 1).wrapping_mul(2_654_435_761) >> 8;
        mixed as f32 / (1 << 23) as f32 - 1.0
    }

    fn activate<T: Testable + PartialOrd>(activation: Activation, x: T) -> T {
        let (zero, six) = (T::from(0.0), T::from(6.0));
        match activation {
            Activation::Identity => x,
            _ if x < zero => zero,
            Activation::Relu6 if x > six => six,
            _ => x,
        }
    }

    /// Every instruction set gives the chain of the definition to the bit, in one step and in two.
    fn check<T: Testable + PartialOrd>(
        valid: usize,
        k: usize,
        share: usize,
        cut: usize,
        activation: Activation,
        poison: bool,
    ) -> Result<(), TestCaseError> {
        let weight: Vec<T> = (0..valid * k).map(|i| T::from(4.0 * number(i))).collect();
        let bias: Vec<T> = (0..valid).map(|i| T::from(number(i + 7))).collect();
        let packed = Packed::panels(&weight, 1, k);
        for tiles in T::every() {
            let n = share % tiles.columns() + 1;
            let (stride, full) = (n + 3, tiles.full());
            let mut x: Vec<T> = (0..k * full).map(|i| T::from(number(i + 99))).collect();
            let ones: Vec<T> = (0..k).map(|i| T::from(number(i + 5))).collect();
            if poison {
                x[n / 2] = T::from(f32::NAN);
            }
            let value = |r: usize, j: usize| match tiles.ends_in_one(n) && j + 1 == n {
                true => ones[r],
                false => x[r * full + j],
            };
            let sentinel = T::from(-77.0);
            let mut out = vec![sentinel; PANEL * stride];
            let cut = cut.min(k);
            for (first, last) in [(0, cut), (cut, k)] {
                if first == last && first > 0 {
                    continue;
                }
                let step = Step {
                    terms: last - first,
                    weight: packed.panel(0, 0)[first * PANEL..].as_ptr(),
                    next: packed.panel(0, 0).as_ptr(),
                    x: x[first * full..].as_ptr(),
                    one: ones[first..].as_ptr(),
                    apart: [full, 1],
                    out: out.as_mut_ptr(),
                    stride,
                    valid,
                    columns: n,
                    bias: (first == 0).then_some(bias.as_ptr()),
                    beside: None,
                    activation: if last == k {
                        activation
                    } else {
                        Activation::Identity
                    },
                };
                // SAFETY: the slices hold what the step reads and writes.
                unsafe { tiles.run(&step) };
            }
            for i in 0..PANEL {
                for j in 0..stride {
                    let got = out[i * stride + j];
                    if i >= valid || j >= n {
                        prop_assert_eq!(got, sentinel, "written outside, {} {}", i, j);
                        continue;
                    }
                    let want = (0..k).fold(bias[i], |s, r| {
                        s.add_product(weight[i * k + r], value(r, j), tiles.fused)
                    });
                    let want = activate(activation, want);
                    #[allow(clippy::eq_op)]
                    let both_nan = got != got && want != want;
                    prop_assert!(both_nan || got == want, "{i} {j}: {got:?}, not {want:?}");
                }
            }
        }
        Ok(())
    }

    /// What exists is moved, what does not is 0.
    fn check_gather<T: Testable>(
        channels: usize,
        taps: usize,
        cuts: &[(usize, usize, usize)],
        second: bool,
    ) -> Result<(), TestCaseError> {
        let plane = 200;
        let x: Vec<T> = (0..channels * plane).map(|i| T::from(number(i))).collect();
        let apart = 1 + usize::from(second);
        for tiles in T::every() {
            let (mut moves, mut ones, mut want) = (Vec::new(), Vec::new(), Vec::new());
            let mut registers = Vec::new();
            for t in 0..taps {
                let mut row = Vec::new();
                registers.clear();
                for (i, &(count, first, end)) in cuts.iter().enumerate() {
                    let before = row.len() % tiles.lanes;
                    let count = count.min(tiles.lanes - before);
                    let count = count.min(tiles.full() - row.len());
                    if count == 0 {
                        break;
                    }
                    if before == 0 {
                        registers.push(0);
                    }
                    *registers.last_mut().unwrap() += 1;
                    let ends = [first.min(count), end.min(count)];
                    // Numbers that do not exist may lie before the channel.
                    let from = (i * 11 + t) as isize - (ends[0] * apart) as isize;
                    let moved = from - (before * apart) as isize;
                    moves.push(Move::new(moved, ends.map(|end| end + before), second));
                    row.extend((0..count).map(|j| {
                        (ends[0] <= j && j < ends[1])
                            .then(|| (from + (j * apart) as isize) as usize)
                    }));
                }
                // The rest of a register.
                row.resize(registers.len() * tiles.lanes, None);
                want.push(row);
                ones.push(Move::new(t as isize, [0, t % 2], second));
            }
            let mut out = vec![T::from(-77.0); channels * taps * tiles.full()];
            let mut one = vec![T::from(-77.0); channels * taps];
            let gather = Gather {
                x: x.as_ptr(),
                channels,
                plane,
                second,
                taps,
                moves: &moves,
                registers: &registers,
                ones: &ones,
                out: out.as_mut_ptr(),
                one: one.as_mut_ptr(),
            };
            // SAFETY: the slices hold what the moves name.
            unsafe { tiles.gather(&gather) };
            for term in 0..channels * taps {
                let (c, t) = (term / taps, term % taps);
                for (j, at) in want[t].iter().enumerate() {
                    let want = at.map_or(T::from(0.0), |at| x[c * plane + at]);
                    prop_assert_eq!(out[term * tiles.full() + j], want, "{} {}", term, j);
                }
                let want = if t % 2 == 1 {
                    x[c * plane + t]
                } else {
                    T::from(0.0)
                };
                prop_assert_eq!(one[term], want);
            }
        }
        Ok(())
    }

    /// A panel's row times a vector is the chain of the definition too.
    fn check_dense<T: Testable + PartialOrd>(
        rows: usize,
        k: usize,
        activation: Activation,
    ) -> Result<(), TestCaseError> {
        let weight: Vec<T> = (0..rows * k).map(|i| T::from(4.0 * number(i))).collect();
        let bias: Vec<T> = (0..rows).map(|i| T::from(number(i + 7))).collect();
        let x: Vec<T> = (0..k).map(|i| T::from(number(i + 99))).collect();
        let packed = Packed::panels(&weight, 1, k);
        for tiles in T::every() {
            let mut out = vec![T::default(); rows];
            let mut dense = Dense {
                x: &x,
                weight: packed.panels_from(0, 0),
                bias: &bias,
                out: &mut out,
                activation,
            };
            // SAFETY: only what the processor has is listed.
            unsafe { tiles.dense(&mut dense) };
            for (i, &got) in out.iter().enumerate() {
                let want = (0..k).fold(bias[i], |s, t| {
                    s.add_product(weight[i * k + t], x[t], tiles.fused)
                });
                prop_assert_eq!(got, activate(activation, want), "{}", i);
            }
        }
        Ok(())
    }

    /// A channel that is read where it lies, padding and all, is the chain of the definition with zeros around it.
    fn check_window<T: Testable + PartialOrd>(
        [kh, kw]: [usize; 2],
        dilation: usize,
        [h, w]: [usize; 2],
        pad: usize,
        [sh, sw]: [usize; 2],
        activation: Activation,
    ) -> Result<(), TestCaseError> {
        let reach = |n: usize, k: usize| (n + 2 * pad).checked_sub((k - 1) * dilation + 1);
        let Some((high, wide)) = reach(h, kh).zip(reach(w, kw)) else {
            return Ok(());
        };
        let (height, width) = (high / sh + 1, wide / sw + 1);
        let bias = [T::from(0.25), T::from(-0.5)];
        let weights = bias.len() * kh * kw;
        let weight: Vec<T> = (0..weights).map(|i| T::from(4.0 * number(i))).collect();
        // What lies around channels must not be seen, nor written.
        let around = 7;
        let apart = [around + h * w, around + height * width];
        let mut x = vec![T::from(f32::NAN); bias.len() * apart[0] + around];
        for channel in x.chunks_exact_mut(apart[0]) {
            for (i, x) in channel[around..].iter_mut().enumerate() {
                *x = T::from(number(i + 99));
            }
        }
        let inside = |at: usize, n: usize| at.checked_sub(pad).filter(|&i| i < n);
        let ends = |k: usize, step: usize, n: usize, out: usize| -> Vec<[usize; 2]> {
            let reached = |t: usize| {
                let at = |o: &usize| inside(o * step + t * dilation, n).is_some();
                let (first, count) = ((0..out).find(at), (0..out).filter(at));
                let first = first.unwrap_or(0);
                [first, first + count.count()]
            };
            (0..k).map(reached).collect()
        };
        let tap = |t: usize| {
            let [r, s] = [t / kw, t % kw].map(|k| (k * dilation) as isize - pad as isize);
            r * w as isize + s
        };
        let taps: Vec<isize> = (0..kh * kw).map(tap).collect();
        for tiles in T::every() {
            let sentinel = T::from(-77.0);
            let mut out = vec![sentinel; bias.len() * apart[1]];
            let window = Window {
                weight: &weight,
                bias: &bias,
                x: x[around..].as_ptr(),
                apart,
                step: sh * w,
                second: sw == 2,
                taps: &taps,
                rows: &ends(kh, sh, h, height),
                columns: &ends(kw, sw, w, width),
                out: out.as_mut_ptr(),
                size: [height, width],
                activation,
            };
            // SAFETY: only what the processor has is listed; taps reach the channels alone.
            unsafe { tiles.window(&window) };
            for (i, &got) in out.iter().enumerate() {
                let (c, p) = (i / apart[1], i % apart[1]);
                if p >= height * width {
                    prop_assert_eq!(got, sentinel, "written behind the end");
                    continue;
                }
                let (i, j) = (p / width * sh, p % width * sw);
                let want = (0..kh * kw).fold(bias[c], |sum, t| {
                    let at =
                        (inside(i + t / kw * dilation, h)).zip(inside(j + t % kw * dilation, w));
                    let at = at.map(|(i, j)| c * apart[0] + around + i * w + j);
                    let value = at.map_or(T::from(0.0), |at| x[at]);
                    sum.add_product(weight[c * kh * kw + t], value, tiles.fused)
                });
                prop_assert_eq!(got, activate(activation, want), "{} {} {}", c, i, j);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn dense_layers_are_the_chain_of_the_definition(
            rows in 1usize..150,
            k in 1usize..40,
            activation in activations(),
        ) {
            check_dense::<f32>(rows, k, activation)?;
            check_dense::<f64>(rows, k, activation)?;
        }

        #[test]
        fn windows_are_the_chain_of_the_definition(
            kernel in prop_oneof![
                2 => Just([3, 3]), 1 => Just([5, 5]), 1 => [1usize..5, 1usize..5]
            ],
            dilation in prop_oneof![3 => Just(1usize), 1 => Just(2)],
            size in [1usize..40, 1usize..40],
            pad in 0usize..3,
            step in [1usize..4, 1usize..3],
            activation in activations(),
        ) {
            check_window::<f32>(kernel, dilation, size, pad, step, activation)?;
            check_window::<f64>(kernel, dilation, size, pad, step, activation)?;
        }
    }

    fn activations() -> impl Strategy<Value = Activation> {
        prop_oneof![
            Just(Activation::Identity),
            Just(Activation::Relu),
            Just(Activation::Relu6)
        ]
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_chain_of_the_definition(
            valid in 1usize..=PANEL,
            k in 1usize..40,
            share in 0usize..1000,
            cut in 0usize..40,
            activation in activations(),
            poison in any::<bool>(),
        ) {
            check::<f32>(valid, k, share, cut, activation, poison)?;
            check::<f64>(valid, k, share, cut, activation, poison)?;
        }

        #[test]
        fn columns_are_laid_where_they_belong(
            channels in 1usize..4,
            taps in 1usize..4,
            cuts in prop::collection::vec((1usize..17, 0usize..17, 0usize..17), 1..9),
            second in any::<bool>(),
        ) {
            check_gather::<f32>(channels, taps, &cuts, second)?;
            check_gather::<f64>(channels, taps, &cuts, second)?;
        }
    }
}
