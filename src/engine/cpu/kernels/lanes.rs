//! A vector register, whatever the instruction set.

use crate::network::Activation;

/// A register of numbers.
///
/// # Safety
/// Every function may only run on a processor that has the instruction set. Pointers have to be valid for the numbers
/// that are read or written: [`Lanes::LEN`], or the first `n`.
pub trait Lanes: Copy {
    /// The number type.
    type Item: Copy;
    /// Numbers in a register.
    const LEN: usize;
    /// True where [`Lanes::add_product`] rounds once.
    const FUSED: bool;
    /// The same number in all.
    unsafe fn splat(x: Self::Item) -> Self;
    /// `LEN` numbers.
    unsafe fn load(from: *const Self::Item) -> Self;
    /// The first `n` of `1..=LEN` numbers; what stands behind them does not matter.
    unsafe fn load_first(from: *const Self::Item, n: usize) -> Self;
    /// Which numbers of a register exist.
    type Mask: Copy;
    /// Those whose bit is set, of the lowest [`Lanes::LEN`].
    unsafe fn mask(bits: u32) -> Self::Mask;
    /// The numbers that exist, where they would lie in a whole register; 0 for others, which are not read.
    unsafe fn load_masked(from: *const Self::Item, mask: Self::Mask) -> Self;
    /// The same of two registers, and of them every second number from the first on, and from the second on.
    unsafe fn load_both(from: *const Self::Item, masks: [Self::Mask; 2]) -> [Self; 2];
    /// Every second number from the first on.
    #[inline(always)]
    unsafe fn load_second(from: *const Self::Item, masks: [Self::Mask; 2]) -> Self {
        // SAFETY: the caller's.
        let [every_second, _] = unsafe { Self::load_both(from, masks) };
        every_second
    }
    /// [`Lanes::load_masked`] into lanes that are 0; others stay.
    unsafe fn load_onto(self, from: *const Self::Item, mask: Self::Mask) -> Self;
    /// [`Lanes::load_second`] into lanes that are 0; others stay.
    unsafe fn load_second_onto(self, from: *const Self::Item, masks: [Self::Mask; 2]) -> Self;
    /// Tells that what lies here will soon be written; nothing where there is no such instruction.
    #[inline(always)]
    unsafe fn expect(_at: *const Self::Item) {}
    /// All `LEN`.
    unsafe fn store(self, to: *mut Self::Item);
    /// The first `n` of `1..=LEN`.
    unsafe fn store_first(self, to: *mut Self::Item, n: usize);
    /// `self + a * b`
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// What is below 0 becomes 0; NaN stays.
    unsafe fn relu(self) -> Self;
    /// [`Lanes::relu`], and what is above 6 becomes 6.
    unsafe fn relu6(self) -> Self;
    /// `activation(self)`
    #[inline(always)]
    unsafe fn activated(self, activation: Activation) -> Self {
        // SAFETY: the caller's.
        unsafe {
            match activation {
                Activation::Identity => self,
                Activation::Relu => self.relu(),
                Activation::Relu6 => self.relu6(),
            }
        }
    }
}

/// Bits `first` to `end`, exclusive, of at most 31.
#[inline(always)]
pub fn between(first: usize, end: usize) -> u32 {
    (1 << end.max(first)) - (1 << first)
}

/// Bit `i` becomes bit `2 i`, for the lower 16.
#[inline(always)]
pub fn spread(bits: u32) -> u32 {
    let bits = (bits | bits << 8) & 0x00ff_00ff;
    let bits = (bits | bits << 4) & 0x0f0f_0f0f;
    let bits = (bits | bits << 2) & 0x3333_3333;
    (bits | bits << 1) & 0x5555_5555
}
