//! Plain Rust, for processors without kernels of their own.

use std::ops::{Add, Mul};

use super::dense::{Dense, dense};
use super::lanes::Lanes;
use super::tile::{Gather, Step, Tiles, gather, panel};
use super::window::{Window, window};

/// What the compiler may keep in one register.
#[derive(Clone, Copy)]
pub struct Wide<T>([T; LEN]);

const LEN: usize = 4;

impl<T> Lanes for Wide<T>
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    type Item = T;
    const LEN: usize = LEN;
    const FUSED: bool = false;
    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Self([x; LEN])
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        Self(std::array::from_fn(|l| unsafe { *from.add(l) }))
    }
    #[inline(always)]
    unsafe fn load_first(from: *const T, n: usize) -> Self {
        Self(std::array::from_fn(|l| unsafe { *from.add(l.min(n - 1)) }))
    }
    type Mask = u32;
    #[inline(always)]
    unsafe fn mask(bits: u32) -> u32 {
        bits & ((1 << LEN) - 1)
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const T, mask: u32) -> Self {
        Self(std::array::from_fn(|l| match mask >> l & 1 {
            1 => unsafe { *from.wrapping_add(l) },
            _ => T::from(0.0),
        }))
    }
    #[inline(always)]
    unsafe fn load_both(from: *const T, masks: [u32; 2]) -> [Self; 2] {
        unsafe {
            let [low, high] = [
                Self::load_masked(from, masks[0]),
                Self::load_masked(from.wrapping_add(LEN), masks[1]),
            ];
            let both = |l: usize| if l < LEN { low.0[l] } else { high.0[l - LEN] };
            [0, 1].map(|first| Self(std::array::from_fn(|l| both(2 * l + first))))
        }
    }
    #[inline(always)]
    unsafe fn load_onto(self, from: *const T, mask: u32) -> Self {
        Self(std::array::from_fn(|l| match mask >> l & 1 {
            1 => unsafe { *from.wrapping_add(l) },
            _ => self.0[l],
        }))
    }
    #[inline(always)]
    unsafe fn load_second_onto(self, from: *const T, [low, high]: [u32; 2]) -> Self {
        let masks = low | high << LEN;
        Self(std::array::from_fn(|l| match masks >> (2 * l) & 1 {
            1 => unsafe { *from.wrapping_add(2 * l) },
            _ => self.0[l],
        }))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        unsafe { self.store_first(to, LEN) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut T, n: usize) {
        for (l, x) in self.0.into_iter().enumerate().take(n) {
            unsafe { *to.add(l) = x }
        }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] + a.0[l] * b.0[l]))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        let zero = T::from(0.0);
        Self(self.0.map(|x| if x < zero { zero } else { x }))
    }
    #[inline(always)]
    unsafe fn relu6(self) -> Self {
        let six = T::from(6.0);
        let low = unsafe { self.relu() };
        Self(low.0.map(|x| if x > six { six } else { x }))
    }
}

unsafe fn channel<T>(channel: &Window<'_, T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { window::<Wide<T>>(channel) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn channel_fma<T>(channel: &Window<'_, T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { window::<Wide<T>>(channel) }
}

unsafe fn vector<T>(vector: &mut Dense<'_, T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { dense::<Wide<T>>(vector) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn vector_fma<T>(vector: &mut Dense<'_, T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { dense::<Wide<T>>(vector) }
}

unsafe fn run<T, const WIDE: usize>(step: &Step<T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { panel::<Wide<T>, 2, WIDE>(step) }
}

unsafe fn lay<T>(moves: &Gather<'_, T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { gather::<Wide<T>>(moves) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_fma<T, const WIDE: usize>(step: &Step<T>)
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    unsafe { panel::<Wide<T>, 2, WIDE>(step) }
}

/// For processors with AVX2 and FMA, and numbers whose product needs the latter.
#[cfg(target_arch = "x86_64")]
pub const fn with_fma<T>() -> Tiles<T>
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    Tiles::new::<Wide<T>>(
        [run_fma::<T, 1>, run_fma::<T, 2>, run_fma::<T, 3>],
        None,
        lay::<T>,
        channel_fma::<T>,
        vector_fma::<T>,
    )
}

/// For any processor.
pub const fn tiles<T>() -> Tiles<T>
where
    T: Copy + PartialOrd + Add<Output = T> + Mul<Output = T> + From<f32>,
{
    Tiles::new::<Wide<T>>(
        [run::<T, 1>, run::<T, 2>, run::<T, 3>],
        None,
        lay::<T>,
        channel::<T>,
        vector::<T>,
    )
}
