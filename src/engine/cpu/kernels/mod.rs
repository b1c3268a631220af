//! Products of a packed matrix with rows that lie anywhere: the arithmetic of convolutions and dense layers.
//!
//! Every element of a product is one chain of fused additions in the order of its terms, begun with the bias. So it
//! is the same bits however the work is cut into tiles, blocks and threads.

mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod packed;
pub mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use packed::{PANEL, Packed};
pub use tile::{Step, Tiles};

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
            let stride = n + 3;
            let rows: Vec<u32> = (0..k).map(|r| (r * 5 + r % 3) as u32).collect();
            let mut x: Vec<T> = (0..k * 5 + n + 3)
                .map(|i| T::from(number(i + 99)))
                .collect();
            if poison {
                x[n / 2] = T::from(f32::NAN);
            }
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
                    x: x.as_ptr(),
                    rows: rows[first..].as_ptr(),
                    out: out.as_mut_ptr(),
                    stride,
                    valid,
                    columns: n,
                    bias: (first == 0).then_some(bias.as_ptr()),
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
                        s.add_product(weight[i * k + r], x[rows[r] as usize + j], tiles.fused)
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

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_chain_of_the_definition(
            valid in 1usize..=PANEL,
            k in 1usize..40,
            share in 0usize..1000,
            cut in 0usize..40,
            activation in prop_oneof![
                Just(Activation::Identity), Just(Activation::Relu), Just(Activation::Relu6)
            ],
            poison in any::<bool>(),
        ) {
            check::<f32>(valid, k, share, cut, activation, poison)?;
            check::<f64>(valid, k, share, cut, activation, poison)?;
        }
    }
}
