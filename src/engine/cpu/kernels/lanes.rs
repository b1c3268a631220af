//! A vector register, whatever the instruction set.

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
    /// Those from `first` to `end`, exclusive.
    unsafe fn mask(first: usize, end: usize) -> Self::Mask;
    /// The numbers that exist, where they would lie in a whole register; 0 for others, which are not read.
    unsafe fn load_masked(from: *const Self::Item, mask: Self::Mask) -> Self;
    /// The same of every second number from the first on.
    unsafe fn load_second(from: *const Self::Item, mask: Self::Mask) -> Self;
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
}
