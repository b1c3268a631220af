//! AVX-512, and AVX2 with FMA.

use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::tile::{Step, Tiles, panel};

macro_rules! avx512 {
    ($register:ident, $t:ident, $len:literal, $mask:ident, $splat:ident, $load:ident, $load_first:ident,
     $store:ident, $store_first:ident, $fma:ident, $max:ident, $min:ident) => {
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
                unsafe { $load_first(((1u32 << n) - 1) as $mask, from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $t, n: usize) {
                unsafe { $store_first(to, ((1u32 << n) - 1) as $mask, self) }
            }
            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                unsafe { $fma(a, b, self) }
            }
            // These instructions return their second operand when one is NaN.
            #[inline(always)]
            unsafe fn relu(self) -> Self {
                unsafe { $max($splat(0.0), self) }
            }
            #[inline(always)]
            unsafe fn relu6(self) -> Self {
                unsafe { $min($splat(6.0), self.relu()) }
            }
        }
    };
}

avx512!(
    __m512,
    f32,
    16,
    u16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_maskz_loadu_ps,
    _mm512_storeu_ps,
    _mm512_mask_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_max_ps,
    _mm512_min_ps
);
avx512!(
    __m512d,
    f64,
    8,
    u8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_maskz_loadu_pd,
    _mm512_storeu_pd,
    _mm512_mask_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_max_pd,
    _mm512_min_pd
);

/// All ones for the lanes below `n`.
#[inline(always)]
unsafe fn mask32(n: usize) -> __m256i {
    unsafe {
        let at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), at)
    }
}

/// All ones for the lanes below `n`.
#[inline(always)]
unsafe fn mask64(n: usize) -> __m256i {
    unsafe { _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)) }
}

macro_rules! avx2 {
    ($register:ident, $t:ident, $len:literal, $mask:ident, $splat:ident, $load:ident, $load_first:ident,
     $store:ident, $store_first:ident, $fma:ident, $max:ident, $min:ident) => {
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
                unsafe { $load_first(from, $mask(n)) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $t, n: usize) {
                unsafe { $store_first(to, $mask(n), self) }
            }
            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                unsafe { $fma(a, b, self) }
            }
            // These instructions return their second operand when one is NaN.
            #[inline(always)]
            unsafe fn relu(self) -> Self {
                unsafe { $max($splat(0.0), self) }
            }
            #[inline(always)]
            unsafe fn relu6(self) -> Self {
                unsafe { $min($splat(6.0), self.relu()) }
            }
        }
    };
}

avx2!(
    __m256,
    f32,
    8,
    mask32,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_maskload_ps,
    _mm256_storeu_ps,
    _mm256_maskstore_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps,
    _mm256_min_ps
);
avx2!(
    __m256d,
    f64,
    4,
    mask64,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_maskload_pd,
    _mm256_storeu_pd,
    _mm256_maskstore_pd,
    _mm256_fmadd_pd,
    _mm256_max_pd,
    _mm256_min_pd
);

macro_rules! tiles {
    ($name:ident, $run:ident, $register:ident, $t:ident, $rows:literal, $features:literal) => {
        /// For processors with these instructions only.
        pub const fn $name() -> Tiles<$t> {
            #[target_feature(enable = $features)]
            unsafe fn $run<const WIDE: usize>(step: &Step<$t>) {
                unsafe { panel::<$register, $rows, WIDE>(step) }
            }
            Tiles::new::<$register>([$run::<1>, $run::<2>, $run::<3>])
        }
    };
}

// 8 x 3 of the 32 registers hold sums, 4 x 3 of the 16.
tiles!(avx512_f32, run, __m512, f32, 8, "avx512f");
tiles!(avx512_f64, run, __m512d, f64, 8, "avx512f");
tiles!(avx2_f32, run, __m256, f32, 4, "avx2,fma");
tiles!(avx2_f64, run, __m256d, f64, 4, "avx2,fma");
