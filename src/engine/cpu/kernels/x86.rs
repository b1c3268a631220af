//! AVX-512, and AVX2 with FMA.

use std::arch::x86_64::*;

use super::dense::{Dense, dense};
use super::lanes::Lanes;
use super::tile::{Gather, Step, Tiles, gather, panel, panel_and_one};
use super::window::{Window, window};

/// Every second number of both registers, from `FIRST` on: 0 or 1.
#[inline(always)]
unsafe fn half512_f32<const FIRST: i32>(low: __m512, high: __m512) -> __m512 {
    unsafe {
        let at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let at = _mm512_add_epi32(at, _mm512_set1_epi32(FIRST));
        _mm512_permutex2var_ps(low, at, high)
    }
}

/// Every second number of both registers, from `FIRST` on: 0 or 1.
#[inline(always)]
unsafe fn half512_f64<const FIRST: i32>(low: __m512d, high: __m512d) -> __m512d {
    unsafe {
        let at = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        let at = _mm512_add_epi64(at, _mm512_set1_epi64(FIRST.into()));
        _mm512_permutex2var_pd(low, at, high)
    }
}

/// The bits of both.
#[inline(always)]
unsafe fn or512_f32(a: __m512, b: __m512) -> __m512 {
    unsafe {
        let [a, b] = [a, b].map(|x| _mm512_castps_si512(x));
        _mm512_castsi512_ps(_mm512_or_si512(a, b))
    }
}

/// The bits of both.
#[inline(always)]
unsafe fn or512_f64(a: __m512d, b: __m512d) -> __m512d {
    unsafe {
        let [a, b] = [a, b].map(|x| _mm512_castpd_si512(x));
        _mm512_castsi512_pd(_mm512_or_si512(a, b))
    }
}

macro_rules! avx512 {
    ($register:ident, $t:ident, $len:literal, $mask:ident, $splat:ident, $load:ident, $load_first:ident,
     $store:ident, $store_first:ident, $fma:ident, $max:ident, $min:ident, $half:ident, $or:ident) => {
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
            type Mask = $mask;
            #[inline(always)]
            unsafe fn mask(bits: u32) -> $mask {
                bits as $mask
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $t, mask: $mask) -> Self {
                unsafe { $load_first(mask, from) }
            }
            #[inline(always)]
            unsafe fn load_both(from: *const $t, [low, high]: [Self::Mask; 2]) -> [Self; 2] {
                unsafe {
                    let low = Self::load_masked(from, low);
                    let high = Self::load_masked(from.wrapping_add($len), high);
                    [$half::<0>(low, high), $half::<1>(low, high)]
                }
            }
            #[inline(always)]
            unsafe fn load_onto(self, from: *const $t, mask: Self::Mask) -> Self {
                unsafe { $or(self, Self::load_masked(from, mask)) }
            }
            #[inline(always)]
            unsafe fn load_second_onto(self, from: *const $t, masks: [Self::Mask; 2]) -> Self {
                unsafe { $or(self, Self::load_second(from, masks)) }
            }
            #[inline(always)]
            unsafe fn expect(at: *const $t) {
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
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
    _mm512_min_ps,
    half512_f32,
    or512_f32
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
    _mm512_min_pd,
    half512_f64,
    or512_f64
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

/// All ones for the lanes whose bit is set.
#[inline(always)]
unsafe fn bits32(bits: u32) -> __m256i {
    unsafe {
        let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), each), each)
    }
}

/// All ones for the lanes whose bit is set.
#[inline(always)]
unsafe fn bits64(bits: u32) -> __m256i {
    unsafe {
        let each = _mm256_setr_epi64x(1, 2, 4, 8);
        _mm256_cmpeq_epi64(
            _mm256_and_si256(_mm256_set1_epi64x(bits.into()), each),
            each,
        )
    }
}

/// Every second number of both registers, from `FIRST` on: 0 or 1.
#[inline(always)]
unsafe fn half256_f32<const FIRST: i32>(low: __m256, high: __m256) -> __m256 {
    unsafe {
        let pairs = match FIRST {
            0 => _mm256_shuffle_ps::<0b10_00_10_00>(low, high),
            _ => _mm256_shuffle_ps::<0b11_01_11_01>(low, high),
        };
        let pairs = _mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(pairs));
        _mm256_castpd_ps(pairs)
    }
}

/// Every second number of both registers, from `FIRST` on: 0 or 1.
#[inline(always)]
unsafe fn half256_f64<const FIRST: i32>(low: __m256d, high: __m256d) -> __m256d {
    unsafe {
        let pairs = match FIRST {
            0 => _mm256_unpacklo_pd(low, high),
            _ => _mm256_unpackhi_pd(low, high),
        };
        _mm256_permute4x64_pd::<0b11_01_10_00>(pairs)
    }
}

macro_rules! avx2 {
    ($register:ident, $t:ident, $len:literal, $mask:ident, $splat:ident, $load:ident, $load_first:ident,
     $store:ident, $store_first:ident, $fma:ident, $max:ident, $min:ident, $bits:ident, $half:ident, $or:ident) => {
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
            type Mask = __m256i;
            #[inline(always)]
            unsafe fn mask(bits: u32) -> __m256i {
                unsafe { $bits(bits) }
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $t, mask: __m256i) -> Self {
                unsafe { $load_first(from, mask) }
            }
            #[inline(always)]
            unsafe fn load_both(from: *const $t, [low, high]: [Self::Mask; 2]) -> [Self; 2] {
                unsafe {
                    let low = Self::load_masked(from, low);
                    let high = Self::load_masked(from.wrapping_add($len), high);
                    [$half::<0>(low, high), $half::<1>(low, high)]
                }
            }
            #[inline(always)]
            unsafe fn load_onto(self, from: *const $t, mask: Self::Mask) -> Self {
                unsafe { $or(self, Self::load_masked(from, mask)) }
            }
            #[inline(always)]
            unsafe fn load_second_onto(self, from: *const $t, masks: [Self::Mask; 2]) -> Self {
                unsafe { $or(self, Self::load_second(from, masks)) }
            }
            #[inline(always)]
            unsafe fn expect(at: *const $t) {
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
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
    _mm256_min_ps,
    bits32,
    half256_f32,
    _mm256_or_ps
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
    _mm256_min_pd,
    bits64,
    half256_f64,
    _mm256_or_pd
);

macro_rules! tiles {
    ($name:ident, $register:ident, $t:ident, $rows:literal, $features:literal, $panel:ident
     $(, $one:ident)?) => {
        /// For processors with these instructions only.
        pub const fn $name() -> Tiles<$t> {
            #[target_feature(enable = $features)]
            unsafe fn run<const WIDE: usize>(step: &Step<$t>) {
                unsafe { panel::<$register, $rows, WIDE>(step) }
            }
            #[target_feature(enable = $features)]
            unsafe fn lay(moves: &Gather<'_, $t>) {
                unsafe { gather::<$register>(moves) }
            }
            #[target_feature(enable = $features)]
            unsafe fn channel(channel: &Window<'_, $t>) {
                unsafe { window::<$register>(channel) }
            }
            #[target_feature(enable = $features)]
            unsafe fn vector(vector: &mut Dense<'_, $t>) {
                unsafe { dense::<$panel>(vector) }
            }
            #[allow(unused_mut, unused_assignments)]
            let mut and_one: Option<[unsafe fn(&Step<$t>); 3]> = None;
            $(
                #[target_feature(enable = $features)]
                unsafe fn run_one<const WIDE: usize>(step: &Step<$t>) {
                    unsafe { panel_and_one::<$register, $one, WIDE>(step) }
                }
                and_one = Some([run_one::<1>, run_one::<2>, run_one::<3>]);
            )?
            Tiles::new::<$register>([run::<1>, run::<2>, run::<3>], and_one, lay, channel, vector)
        }
    };
}

// 8 x 3 of the 32 registers hold sums, and one those of a single column; 4 x 3 of the 16.
tiles!(avx512_f32, __m512, f32, 8, "avx512f", __m256, __m256);
tiles!(avx512_f64, __m512d, f64, 8, "avx512f", __m512d, __m512d);
tiles!(avx2_f32, __m256, f32, 4, "avx2,fma", __m256);
tiles!(avx2_f64, __m256d, f64, 4, "avx2,fma", __m256d);
