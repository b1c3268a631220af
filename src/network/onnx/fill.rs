//! What stands in padded pixels, and where it cannot matter.

use crate::network::op::{Pad, Window};

/// What padded pixels hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Zeros.
    #[default]
    Zero,
    /// Copies of the nearest pixel of the map (`mode=edge`).
    Edge,
    /// The map mirrored in its outermost pixels, which are not repeated (`mode=reflect`).
    Reflect,
    /// Less than any other value: minus infinity, or the least finite number.
    Lowest,
}

impl Fill {
    /// As in an error: a map ...
    pub fn says(self) -> &'static str {
        match self {
            Fill::Zero => "padded with zeros",
            Fill::Edge => "padded with copies of its edge (mode edge)",
            Fill::Reflect => "padded with its mirror image (mode reflect)",
            Fill::Lowest => "padded with the least number",
        }
    }

    /// An error unless a max pool over the map with `pad` around it equals one over the map alone.
    ///
    /// A copy of a pixel never wins where the window holds the pixel too. Every window ends at row `k - 1` of the padded map
    /// or later and begins `k` rows before its end or earlier. So it reaches row `pad`, the first of the map, when
    /// `pad < k`, and with copies of the edge no more is needed, since a window in the padding covers the edge. A mirrored
    /// row at distance `d <= pad` from the edge copies the one `d` rows inside it, which the window reaches when `2 pad < k`.
    /// Padding of the pool itself never wins and moves the first window further out: it counts once in both.
    pub fn never_wins(self, nonnegative: bool, pad: Pad, window: Window) -> Result<(), String> {
        let times = match self {
            Fill::Zero if nonnegative => return Ok(()),
            Fill::Zero => {
                return Err(
                    "pools over zero padding that may win over negative values; only after a ReLU is it the same as \
                     pooling with padding"
                        .into(),
                );
            }
            Fill::Edge | Fill::Lowest => 1,
            Fill::Reflect => 2,
        };
        let own = window.pad;
        let sides = [
            (pad.top, own.top, window.kernel[0]),
            (pad.bottom, own.bottom, window.kernel[0]),
            (pad.left, own.left, window.kernel[1]),
            (pad.right, own.right, window.kernel[1]),
        ];
        match sides.iter().find(|(pad, own, k)| times * pad + own >= *k) {
            None => Ok(()),
            Some((pad, _, k)) => Err(format!(
                "pools over a map {}, and its window of {k} does not always reach from the {pad} padded pixels to those \
                 that they copy; only then is padding without a value of its own the same",
                self.says()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest of every window, the map extended by `at`; `None` pads with nothing.
    fn pooled(map: &[i32], pad: [usize; 2], k: usize, at: impl Fn(i64) -> Option<i32>) -> Vec<i32> {
        let padded: Vec<Option<i32>> = (-(pad[0] as i64)..(map.len() + pad[1]) as i64)
            .map(|i| match usize::try_from(i).ok().and_then(|i| map.get(i)) {
                Some(&x) => Some(x),
                None => at(i),
            })
            .collect();
        let largest = |w: &[Option<i32>]| w.iter().flatten().max().copied();
        padded
            .windows(k)
            .map(|w| largest(w).unwrap_or(i32::MIN))
            .collect()
    }

    #[test]
    fn what_is_accepted_equals_pooling_without_the_copies() {
        let mut accepted = 0;
        for (k, len) in (1..6).flat_map(|k| (1..7).map(move |n| (k, n))) {
            for (before, after) in (0..5).flat_map(|b| (0..5).map(move |a| (b, a))) {
                let pad = Pad {
                    top: before,
                    bottom: after,
                    ..Pad::default()
                };
                let window = Window {
                    kernel: [k, 1],
                    stride: [1, 1],
                    pad: Pad::default(),
                };
                if len + before + after < k {
                    continue;
                }
                let last = len as i64 - 1;
                for seed in 0..20 {
                    let map: Vec<i32> = (0..len)
                        .map(|i| -1 - ((seed * 7 + i * i * 5 + seed * i) % 11) as i32)
                        .collect();
                    let alone = pooled(&map, [before, after], k, |_| None);
                    let copy = |i: i64| map.get(usize::try_from(i).ok()?).copied();
                    if Fill::Edge.never_wins(false, pad, window).is_ok() {
                        let with = pooled(&map, [before, after], k, |i| copy(i.clamp(0, last)));
                        assert_eq!(with, alone, "edge {map:?} {pad:?} {k}");
                        accepted += 1;
                    }
                    if Fill::Reflect.never_wins(false, pad, window).is_ok()
                        && before.max(after) < len
                    {
                        let with = pooled(&map, [before, after], k, |i| {
                            copy(if i < 0 { -i } else { 2 * last - i })
                        });
                        assert_eq!(with, alone, "reflect {map:?} {pad:?} {k}");
                        accepted += 1;
                    }
                }
            }
        }
        assert!(accepted > 1000, "{accepted}");
    }

    #[test]
    fn windows_that_miss_the_copied_pixel_are_refused() {
        let pad = Pad {
            left: 1,
            ..Pad::default()
        };
        let window = |k: usize, own: usize| Window {
            kernel: [1, k],
            stride: [1, 1],
            pad: Pad {
                left: own,
                ..Pad::default()
            },
        };
        assert!(Fill::Edge.never_wins(false, pad, window(2, 0)).is_ok());
        assert!(Fill::Edge.never_wins(false, pad, window(1, 0)).is_err());
        assert!(Fill::Edge.never_wins(false, pad, window(2, 1)).is_err());
        assert!(Fill::Reflect.never_wins(false, pad, window(3, 0)).is_ok());
        assert!(Fill::Reflect.never_wins(false, pad, window(2, 0)).is_err());
        assert!(Fill::Zero.never_wins(false, pad, window(3, 0)).is_err());
        assert!(Fill::Zero.never_wins(true, pad, window(3, 0)).is_ok());
    }
}
