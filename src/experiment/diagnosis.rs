//! Finds the usual mistakes in images, labels and preprocessing by what they do to top-1: a variant that undoes the
//! mistake has far more images right.

use crate::data::{IMAGENET, Preprocessing};

/// One way to show images to a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// A few words.
    pub name: &'static str,
    /// Resize, crop and normalization.
    pub preprocessing: Preprocessing,
    /// Swap the first and the last channel.
    pub swap: bool,
}

impl Variant {
    /// Shows interleaved RGB pixels, already resized and cropped, as planes.
    pub fn input(&self, rgb: &[u8]) -> Vec<f32> {
        if !self.swap {
            return self.preprocessing.normalize(rgb);
        }
        let mut bgr = rgb.to_vec();
        bgr.as_chunks_mut::<3>()
            .0
            .iter_mut()
            .for_each(|p| p.swap(0, 2));
        self.preprocessing.normalize(&bgr)
    }

    /// What is wrong, if this variant is the better one, and what to do.
    pub fn advice(&self) -> String {
        let p = &self.preprocessing;
        if self.swap {
            return "the channels are in the order B, G, R (as OpenCV saves and some old weights expect them): save \
                    the images as RGB, or swap the input channels of the first layer's weights"
                .into();
        }
        format!(
            "the normalization is wrong for these weights: give the model preprocessing with mean = {:?} and \
             std = {:?}",
            p.mean, p.std
        )
    }
}

/// The ways to show images: first as given, then those that undo a usual mistake. Ones that hardly differ from the
/// first are left out.
pub fn variants(given: &Preprocessing) -> Vec<Variant> {
    let plain = |name, mean, std| Variant {
        name,
        preprocessing: Preprocessing {
            mean,
            std,
            ..given.clone()
        },
        swap: false,
    };
    let as_given = plain("as given", given.mean, given.std);
    let swapped = Variant {
        name: "channels as BGR",
        swap: true,
        ..as_given.clone()
    };
    let others = [
        plain("ImageNet mean and std", IMAGENET.mean, IMAGENET.std),
        plain("scaled to [-1, 1]", [0.5; 3], [0.5; 3]),
        plain("scaled to [0, 1] only", [0.0; 3], [1.0; 3]),
        plain("pixels 0 to 255", [0.0; 3], [1.0 / 255.0; 3]),
    ];
    let far = |v: &Variant| {
        let pairs = v.preprocessing.domain().into_iter().zip(given.domain());
        let ends = pairs.flat_map(|(a, b)| [(a[0] - b[0]).abs(), (a[1] - b[1]).abs()]);
        ends.fold(0.0, f64::max) > NEARLY
    };
    let mut all = vec![as_given, swapped];
    all.extend(others.into_iter().filter(far));
    all
}

/// Normalizations whose extreme values are this close give the same answers but for rare ties.
const NEARLY: f64 = 0.05;

/// Top-1 of a variant, with a constant taken from every label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Index of the variant.
    pub variant: usize,
    /// Taken from every label: 0, 1 (labels count from 1) or -1.
    pub shift: i64,
    /// Images with the right answer.
    pub right: usize,
}

/// What the scores say.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Nothing is wrong that top-1 could tell.
    Fine,
    /// This score is far better than the one as given.
    Better(Score),
    /// Nearly all images get one answer, this class: the network does not see them.
    Collapsed(u32),
    /// Images of one label get one answer, but another one than their label.
    Permuted,
    /// No more right answers than guessing would have.
    Chance,
    /// More than guessing, but fewer than half of the answers are right, and no usual mistake explains it.
    Low,
}

/// Scores of all variants and shifts, and what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// As given first; then by variant and shift.
    pub scores: Vec<Score>,
    /// What they say.
    pub finding: Finding,
    /// Images that were judged.
    pub images: usize,
}

/// Below this probability an event is not put down to chance.
const SIGNIFICANT: f64 = 0.05;

/// Judges the top-1 answers `answers[variant][image]`, the first variant being as given, of a network with `classes`
/// classes. A better score must pass a one-sided sign test on the images where it and the one as given differ.
pub fn diagnose(answers: &[Vec<Option<u32>>], labels: &[u32], classes: usize) -> Diagnosis {
    let images = labels.len();
    let hits = |variant: usize, shift: i64| -> Vec<bool> {
        let pairs = answers[variant].iter().zip(labels);
        pairs
            .map(|(answer, &label)| {
                answer.is_some_and(|a| i64::from(a) == i64::from(label) - shift)
            })
            .collect()
    };
    let given = hits(0, 0);
    let mut scores = Vec::new();
    let mut best: Option<Score> = None;
    for variant in 0..answers.len() {
        for shift in [0, 1, -1] {
            let now = hits(variant, shift);
            let score = Score {
                variant,
                shift,
                right: count(&now),
            };
            let wins = now.iter().zip(&given).filter(|(n, g)| **n && !**g).count();
            let losses = now.iter().zip(&given).filter(|(n, g)| !**n && **g).count();
            let better = wins > losses && tail(wins + losses, 0.5, wins) <= SIGNIFICANT;
            if better && best.as_ref().is_none_or(|b| score.right > b.right) {
                best = Some(score.clone());
            }
            scores.push(score);
        }
    }
    let right = count(&given);
    let finding = match best {
        Some(score) => Finding::Better(score),
        None if below_half(images, right) => unexplained(&answers[0], labels, right, classes),
        None => Finding::Fine,
    };
    Diagnosis {
        scores,
        finding,
        images,
    }
}

/// Significantly fewer than half.
fn below_half(images: usize, right: usize) -> bool {
    tail(images, 0.5, images - right) <= SIGNIFICANT
}

fn unexplained(answers: &[Option<u32>], labels: &[u32], right: usize, classes: usize) -> Finding {
    let mut common = std::collections::HashMap::<u32, usize>::new();
    for answer in answers.iter().flatten() {
        *common.entry(*answer).or_default() += 1;
    }
    let most = common.into_iter().max_by_key(|&(class, n)| (n, class));
    let same_label = labels.windows(2).all(|w| w[0] == w[1]);
    if let Some((class, n)) = most
        && !same_label
        && n * 10 >= answers.len() * 9
    {
        return Finding::Collapsed(class);
    }
    // Do pairs of images with one label get one answer, unlike pairs with two labels?
    let (mut one, mut two) = ((0, 0), (0, 0));
    for i in 0..labels.len() {
        for j in 0..i {
            let pairs = if labels[i] == labels[j] {
                &mut one
            } else {
                &mut two
            };
            pairs.0 += usize::from(answers[i].is_some() && answers[i] == answers[j]);
            pairs.1 += 1;
        }
    }
    if one.1 >= 10 && 2 * one.0 >= one.1 && 10 * two.0 <= two.1 {
        return Finding::Permuted;
    }
    match tail(labels.len(), 1.0 / classes.max(1) as f64, right) > SIGNIFICANT / 5.0 {
        true => Finding::Chance,
        false => Finding::Low,
    }
}

fn count(hits: &[bool]) -> usize {
    hits.iter().filter(|h| **h).count()
}

/// `P(X >= k)` for `X` binomial with `n` tries of probability `p`.
fn tail(n: usize, p: f64, k: usize) -> f64 {
    // In logarithms, as 2^-n underflows for large n.
    let mut log_choose = 0.0;
    let mut sum = 0.0;
    for i in 0..=n {
        if i > 0 {
            log_choose += ((n - i + 1) as f64).ln() - (i as f64).ln();
        }
        if i >= k {
            sum += (log_choose + i as f64 * p.ln() + (n - i) as f64 * (-p).ln_1p()).exp();
        }
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::EFFICIENTNET_LITE;

    /// Labels of 60 images, two or three of each of 25 classes.
    fn labels() -> Vec<u32> {
        (0..60).map(|i| 3 + (i * 7 % 25) * 30).collect()
    }

    fn answers(labels: &[u32], right: usize, of: impl Fn(u32) -> u32) -> Vec<Option<u32>> {
        let wrong = |i: usize| 2 + 31 * i as u32 % 997;
        let answer = |(i, &l): (usize, &u32)| if i < right { of(l) } else { wrong(i) };
        labels.iter().enumerate().map(answer).map(Some).collect()
    }

    fn found(given: Vec<Option<u32>>, other: Vec<Option<u32>>) -> Finding {
        diagnose(&[given, other], &labels(), 1000).finding
    }

    #[test]
    fn each_mistake_is_told_from_the_others() {
        let l = labels();
        let good = || answers(&l, 45, |l| l);
        let poor = || answers(&l, 10, |l| l);
        let none = || answers(&l, 0, |l| l);
        assert_eq!(found(good(), answers(&l, 40, |l| l)), Finding::Fine);
        assert_eq!(found(good(), answers(&l, 47, |l| l)), Finding::Fine);
        let better = |variant, shift| {
            Finding::Better(Score {
                variant,
                shift,
                right: 45,
            })
        };
        assert_eq!(found(poor(), good()), better(1, 0));
        assert_eq!(found(answers(&l, 45, |l| l - 1), none()), better(0, 1));
        assert_eq!(found(answers(&l, 45, |l| l + 1), none()), better(0, -1));
        assert_eq!(found(none(), answers(&l, 45, |l| l - 1)), better(1, 1));
        let permuted = answers(&l, 55, |l| (l * 389 + 7) % 1000);
        assert_eq!(found(permuted, none()), Finding::Permuted);
        assert_eq!(found(none(), none()), Finding::Chance);
        assert_eq!(found(poor(), none()), Finding::Low);
        assert_eq!(found(vec![Some(111); 60], none()), Finding::Collapsed(111));
        assert_eq!(found(vec![None; 60], none()), Finding::Chance);
    }

    #[test]
    fn tails_are_those_of_the_binomial_distribution() {
        for (n, p, k, expected) in [
            (5, 0.5, 5, 1.0 / 32.0),
            (4, 0.5, 3, 5.0 / 16.0),
            (2, 0.1, 1, 0.19),
            (3, 0.5, 0, 1.0),
            (0, 0.5, 0, 1.0),
        ] {
            let got = tail(n, p, k);
            // A handful of operations, each with relative error of a few units.
            assert!((got - expected).abs() < 1e-13, "{n} {p} {k}: {got}");
        }
        assert!(tail(5000, 0.5, 2600) < 0.01 && tail(5000, 0.5, 2600) > 0.0);
    }

    #[test]
    fn variants_that_are_the_given_one_are_left_out() {
        let names = |p| -> Vec<&str> { variants(p).iter().map(|v| v.name).collect() };
        let lite = names(&EFFICIENTNET_LITE);
        assert_eq!(lite[..2], ["as given", "channels as BGR"]);
        assert!(!lite.contains(&"scaled to [-1, 1]") && lite.len() == 5);
        assert!(!names(&IMAGENET).contains(&"ImageNet mean and std"));
    }

    #[test]
    fn swapping_exchanges_the_first_and_last_plane() {
        let all = variants(&EFFICIENTNET_LITE);
        let (given, swapped) = (all[0].input(&[10, 20, 30]), all[1].input(&[30, 20, 10]));
        assert_eq!(given, swapped);
        assert_ne!(given, all[1].input(&[10, 20, 30]));
    }
}
