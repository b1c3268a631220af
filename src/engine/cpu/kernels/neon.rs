//! NEON.

use std::arch::aarch64::*;

use super::dense::{Dense, dense};
use super::lanes::Lanes;
use super::tile::{Gather, Step, Tiles, gather, panel};
use super::window::{Window, window};

macro_rules! neon {
    ($register:ident, $t:ident, $len:literal, $splat:ident, $load:ident, $store:ident, $fma:ident,
     $below:ident, $above:ident, $select:ident) => {
        impl Lanes for $register {
            type Item = $t;
            const LEN: usize = $len;
            const FUSED: bool = true;
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self {
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn load_first(from: *const $t, n: usize) -> Self {
                let mut all = [0.0; $len];
                unsafe {
                    std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), n);
                    $load(all.as_ptr())
                }
            }
            type Mask = u32;
            #[inline(always)]
            unsafe fn mask(bits: u32) -> u32 {
                bits & ((1 << $len) - 1)
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $t, mask: u32) -> Self {
                match mask == (1 << $len) - 1 {
                    true => unsafe { $load(from) },
                    false => unsafe { $splat(0.0).load_onto(from, mask) },
                }
            }
            #[inline(always)]
            unsafe fn load_both(from: *const $t, masks: [u32; 2]) -> [Self; 2] {
                let bits = masks[0] | masks[1] << $len;
                let mut all = [[0.0; $len]; 2];
                for l in (0..2 * $len).filter(|l| bits >> l & 1 == 1) {
                    all[l % 2][l / 2] = unsafe { *from.wrapping_add(l) };
                }
                all.map(|half| unsafe { $load(half.as_ptr()) })
            }
            #[inline(always)]
            unsafe fn load_onto(self, from: *const $t, mask: u32) -> Self {
                let mut all = [0.0; $len];
                unsafe { $store(all.as_mut_ptr(), self) };
                for (l, x) in all.iter_mut().enumerate() {
                    if mask >> l & 1 == 1 {
                        *x = unsafe { *from.wrapping_add(l) };
                    }
                }
                unsafe { $load(all.as_ptr()) }
            }
            #[inline(always)]
            unsafe fn load_second_onto(self, from: *const $t, [low, high]: [u32; 2]) -> Self {
                let masks = low | high << $len;
                let mut all = [0.0; $len];
                unsafe { $store(all.as_mut_ptr(), self) };
                for (l, x) in all.iter_mut().enumerate() {
                    if masks >> (2 * l) & 1 == 1 {
                        *x = unsafe { *from.wrapping_add(2 * l) };
                    }
                }
                unsafe { $load(all.as_ptr()) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $t, n: usize) {
                let mut all = [0.0; $len];
                unsafe {
                    $store(all.as_mut_ptr(), self);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
                }
            }
            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                unsafe { $fma(self, a, b) }
            }
            // Comparisons with NaN are false.
            #[inline(always)]
            unsafe fn relu(self) -> Self {
                unsafe { $select($below(self, $splat(0.0)), $splat(0.0), self) }
            }
            #[inline(always)]
            unsafe fn relu6(self) -> Self {
                unsafe {
                    let x = self.relu();
                    $select($above(x, $splat(6.0)), $splat(6.0), x)
                }
            }
        }
    };
}

neon!(
    float32x4_t,
    f32,
    4,
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vfmaq_f32,
    vcltq_f32,
    vcgtq_f32,
    vbslq_f32
);
neon!(
    float64x2_t,
    f64,
    2,
    vdupq_n_f64,
    vld1q_f64,
    vst1q_f64,
    vfmaq_f64,
    vcltq_f64,
    vcgtq_f64,
    vbslq_f64
);

macro_rules! tiles {
    ($name:ident, $register:ident, $t:ident) => {
        /// For processors with these instructions only.
        pub const fn $name() -> Tiles<$t> {
            #[target_feature(enable = "neon")]
            unsafe fn run<const WIDE: usize>(step: &Step<$t>) {
                unsafe { panel::<$register, 8, WIDE>(step) }
            }
            #[target_feature(enable = "neon")]
            unsafe fn lay(moves: &Gather<'_, $t>) {
                unsafe { gather::<$register>(moves) }
            }
            #[target_feature(enable = "neon")]
            unsafe fn channel(channel: &Window<'_, $t>) {
                unsafe { window::<$register>(channel) }
            }
            #[target_feature(enable = "neon")]
            unsafe fn vector(vector: &mut Dense<'_, $t>) {
                unsafe { dense::<$register>(vector) }
            }
            Tiles::new::<$register>([run::<1>, run::<2>, run::<3>], None, lay, channel, vector)
        }
    };
}

tiles!(f32_tiles, float32x4_t, f32);
tiles!(f64_tiles, float64x2_t, f64);
