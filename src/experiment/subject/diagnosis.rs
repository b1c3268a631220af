//! Finds the usual mistakes in images, labels and preprocessing by what they do to top-1: a variant that undoes the
//! mistake has far more images right.

use crate::data::{Channels, IMAGENET, PerChannel, Preprocessing};
use crate::experiment::logits::top1;

/// One way to show images to a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// A few words.
    pub name: &'static str,
    /// Resize, crop and normalization.
    pub preprocessing: Preprocessing,
}

impl Variant {
    /// What is wrong, if this variant is the better one, and what to do.
    pub fn advice(&self, given: &Preprocessing) -> String {
        let p = &self.preprocessing;
        if p.channels != given.channels {
            let channels = p.channels.name();
            return format!(
                "the channels are in the order B, G, R where the weights expect R, G, B, or the reverse (as OpenCV saves and \
                 some old weights expect them): save the images as RGB, or give --channels {channels} (channels = {channels:?} in a plan)"
            );
        }
        let list = |values: &[f32]| {
            let texts: Vec<String> = values.iter().map(f32::to_string).collect();
            texts.join(",")
        };
        format!(
            "the normalization is wrong for these weights: give --mean {} --std {} (preprocessing with mean = {:?} and \
             std = {:?} in a plan)",
            list(&p.mean),
            list(&p.std),
            p.mean,
            p.std
        )
    }
}

/// The ways to show images: first as given, then those that undo a usual mistake. Ones that hardly differ from the
/// first are left out.
pub fn variants(given: &Preprocessing) -> Vec<Variant> {
    let plain = |name, mean: &[f32], std: &[f32]| {
        let numbers = |values| PerChannel::new(values).unwrap_or(given.mean);
        Variant {
            name,
            preprocessing: Preprocessing {
                mean: numbers(mean),
                std: numbers(std),
                input_range: IMAGENET.input_range,
                ..given.clone()
            },
        }
    };
    let as_given = |name, channels| Variant {
        name,
        preprocessing: Preprocessing {
            channels,
            ..given.clone()
        },
    };
    let mut all = vec![as_given("as given", given.channels)];
    match given.channels {
        Channels::Rgb => all.push(as_given("channels as BGR", Channels::Bgr)),
        Channels::Bgr => all.push(as_given("channels as RGB", Channels::Rgb)),
        Channels::Grey | Channels::Rgba => {}
    }
    let mut others = vec![
        plain("scaled to [-1, 1]", &[0.5], &[0.5]),
        plain("scaled to [0, 1] only", &[0.0], &[1.0]),
        plain("pixels 0 to 255", &[0.0], &[1.0 / 255.0]),
    ];
    if given.channels.count() == 3 {
        let imagenet = plain("ImageNet mean and std", &IMAGENET.mean, &IMAGENET.std);
        others.insert(0, imagenet);
    }
    let far = |v: &Variant| {
        let pairs = v.preprocessing.domain().into_iter().zip(given.domain());
        let ends = pairs.flat_map(|(a, b)| [(a[0] - b[0]).abs(), (a[1] - b[1]).abs()]);
        ends.fold(0.0, f64::max) > NEARLY
    };
    all.extend(others.into_iter().filter(far));
    all
}

/// Normalizations whose extreme values are this close give the same answers but for rare ties.
const NEARLY: f64 = 0.05;

/// Top-1 of a variant, with a constant taken from every label.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Index of the variant.
    pub variant: usize,
    /// Taken from every label: 0, 1 (labels count from 1) or -1.
    pub shift: i64,
    /// Images with the right answer.
    pub right: usize,
    /// Mean over the images of `ln softmax(logits / T)[label]`, with the temperature `T` that makes it largest, so that
    /// over-confidence does not count; `-inf` where a label is no class.
    pub log_likelihood: f64,
}

/// What the scores say.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Nothing is wrong that top-1 could tell.
    Fine,
    /// This score is far better than the one as given.
    Better(Score),
    /// This score is probably the better one, but the images are too few for top-1 to tell.
    Suspect(Score),
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

impl Diagnosis {
    /// Of the scores with no fewer right answers than the one as given, the one under which the labels are most likely,
    /// where their likelihood ratio exceeds 20. Confidence alone, which is no finding: a hint to give more images.
    pub fn likelier(&self) -> Option<&Score> {
        let (given, others) = self.scores.split_first()?;
        let ratio = |s: &Score| self.images as f64 * (s.log_likelihood - given.log_likelihood);
        let likelier = |s: &&Score| s.right >= given.right && ratio(s) >= -SIGNIFICANT.ln();
        let all = others.iter().filter(likelier);
        all.max_by(|a, b| a.log_likelihood.total_cmp(&b.log_likelihood))
    }
}

/// Below this probability an event is not put down to chance.
const SIGNIFICANT: f64 = 0.05;

/// No single image counts for more than this in a likelihood ratio.
const MOST: f64 = 3.0;

/// Judges the logits `outputs[variant][image]`, the first variant being as given. A score is
///
/// - better, when it passes a one-sided sign test on the images that only one of it and the one as given has right;
/// - suspected, when it has more images right, at least half of them, and the likelihood ratio of the labels under the
///   two predictions exceeds 20: by Markov's inequality that has a probability below 1/20 where the one as given
///   predicts the labels.
pub fn diagnose(outputs: &[Vec<Vec<f32>>], labels: &[u32]) -> Diagnosis {
    let answers: Vec<Vec<Option<u32>>> = outputs
        .iter()
        .map(|images| images.iter().map(|logits| top1(logits)).collect())
        .collect();
    let images = labels.len();
    let judged = |variant: usize, shift: i64| -> (Vec<bool>, Vec<f64>) {
        let class = |label: u32| i64::from(label) - shift;
        let pairs = answers[variant].iter().zip(labels);
        let right = pairs.map(|(a, &l)| a.is_some_and(|a| i64::from(a) == class(l)));
        let classes: Vec<i64> = labels.iter().map(|&l| class(l)).collect();
        (
            right.collect(),
            log_likelihoods(&outputs[variant], &classes),
        )
    };
    let (given_right, given_likely) = judged(0, 0);
    let mut scores = Vec::new();
    let mut best: [Option<Score>; 2] = [None, None];
    for variant in 0..outputs.len() {
        for shift in [0, 1, -1] {
            let (right, likely) = judged(variant, shift);
            let score = Score {
                variant,
                shift,
                right: count(&right),
                log_likelihood: likely.iter().sum::<f64>() / images as f64,
            };
            let sure = sign_test(&right, &given_right) <= SIGNIFICANT;
            let suspect = score.right > count(&given_right)
                && 2 * score.right >= images
                && log_ratio(&likely, &given_likely) >= -SIGNIFICANT.ln();
            let rank = |s: &Score| (s.right, s.log_likelihood);
            for (best, _) in best.iter_mut().zip([sure, suspect]).filter(|(_, is)| *is) {
                if best.as_ref().is_none_or(|b| rank(&score) > rank(b)) {
                    *best = Some(score.clone());
                }
            }
            scores.push(score);
        }
    }
    let right = count(&given_right);
    let classes = outputs[0].first().map_or(1, Vec::len);
    let finding = match best {
        [Some(score), _] => Finding::Better(score),
        [None, Some(score)] => Finding::Suspect(score),
        _ if below_half(images, right) => unexplained(&answers[0], labels, right, classes),
        _ => Finding::Fine,
    };
    Diagnosis {
        scores,
        finding,
        images,
    }
}

/// Probability that as many of the images that only one has right are `a`'s, were either as probable.
fn sign_test(a: &[bool], b: &[bool]) -> f64 {
    let wins = a.iter().zip(b).filter(|(a, b)| **a && !**b).count();
    let losses = a.iter().zip(b).filter(|(a, b)| !**a && **b).count();
    tail(wins + losses, 0.5, wins)
}

/// Sum of the differences, each cut off at [`MOST`]; images without any likelihood count for nothing.
fn log_ratio(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().zip(b).filter(|(a, b)| a != b);
    pairs.map(|(a, b)| (a - b).clamp(-MOST, MOST)).sum()
}

/// `ln softmax(logits / T)[class]` per image at the most likely of some temperatures `T` from 1/4 to 8; `-inf` where
/// there is no such class or the logits are not numbers.
fn log_likelihoods(outputs: &[Vec<f32>], classes: &[i64]) -> Vec<f64> {
    let at = |temperature: f64| -> Vec<f64> {
        let pairs = outputs.iter().zip(classes);
        pairs
            .map(|(logits, &class)| log_likelihood(logits, class, temperature))
            .collect()
    };
    let total = |of: &Vec<f64>| -> f64 { of.iter().filter(|l| l.is_finite()).sum() };
    let all = (-4..=6).map(|k| at(2f64.powf(f64::from(k) / 2.0)));
    all.max_by(|a, b| total(a).total_cmp(&total(b)))
        .unwrap_or_default()
}

fn log_likelihood(logits: &[f32], class: i64, temperature: f64) -> f64 {
    let logit = usize::try_from(class).ok().and_then(|c| logits.get(c));
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let Some(logit) = logit.filter(|l| l.is_finite() && top.is_finite()) else {
        return f64::NEG_INFINITY;
    };
    let scaled = |x: f32| f64::from(x - top) / temperature;
    let sum: f64 = logits.iter().map(|&x| scaled(x).exp()).sum();
    if sum.is_finite() {
        scaled(*logit) - sum.ln()
    } else {
        f64::NEG_INFINITY
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
    if tail(labels.len(), 1.0 / classes.max(1) as f64, right) > SIGNIFICANT / 5.0 {
        Finding::Chance
    } else {
        Finding::Low
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

    /// Logits with one peak per image.
    fn outputs(labels: &[u32], right: usize, of: impl Fn(u32) -> u32) -> Vec<Vec<f32>> {
        let wrong = |i: usize| 2 + 31 * i as u32 % 997;
        let peak = |(i, &l): (usize, &u32)| if i < right { of(l) } else { wrong(i) };
        labels.iter().enumerate().map(peak).map(logits).collect()
    }

    fn logits(peak: u32) -> Vec<f32> {
        let mut logits = vec![0.0; 1000];
        logits[peak as usize] = 9.0;
        logits
    }

    fn found(given: Vec<Vec<f32>>, other: Vec<Vec<f32>>) -> Finding {
        diagnose(&[given, other], &labels()).finding
    }

    fn better(finding: Finding) -> (usize, i64, usize) {
        match finding {
            Finding::Better(s) => (s.variant, s.shift, s.right),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_mistake_is_told_from_the_others() {
        let l = labels();
        let good = || outputs(&l, 45, |l| l);
        let poor = || outputs(&l, 10, |l| l);
        let none = || outputs(&l, 0, |l| l);
        assert_eq!(found(good(), outputs(&l, 40, |l| l)), Finding::Fine);
        assert_eq!(better(found(poor(), good())), (1, 0, 45));
        let minus = || outputs(&l, 45, |l| l - 1);
        assert_eq!(better(found(minus(), none())), (0, 1, 45));
        let plus = outputs(&l, 45, |l| l + 1);
        assert_eq!(better(found(plus, none())), (0, -1, 45));
        assert_eq!(better(found(none(), minus())), (1, 1, 45));
        let permuted = outputs(&l, 55, |l| (l * 389 + 7) % 1000);
        assert_eq!(found(permuted, none()), Finding::Permuted);
        assert_eq!(found(none(), none()), Finding::Chance);
        assert_eq!(found(poor(), none()), Finding::Low);
        assert_eq!(
            found(vec![logits(111); 60], none()),
            Finding::Collapsed(111)
        );
        let broken = vec![vec![f32::NAN; 1000]; 60];
        assert_eq!(found(broken.clone(), none()), Finding::Chance);
        assert_eq!(found(good(), broken), Finding::Fine);
    }

    #[test]
    fn few_images_make_a_suspicion_and_confidence_none() {
        let l = labels();
        let weaker = |right| -> Vec<Vec<f32>> {
            let mut all = outputs(&l, right, |l| l);
            all.iter_mut().flatten().for_each(|x| *x *= 0.5);
            all
        };
        // Three images: too few for the sign test, which needs five.
        match found(weaker(44), outputs(&l, 47, |l| l)) {
            Finding::Suspect(s) => assert_eq!((s.variant, s.shift, s.right), (1, 0, 47)),
            other => panic!("{other:?}"),
        }
        assert_eq!(found(weaker(44), outputs(&l, 44, |l| l)), Finding::Fine);
        assert_eq!(found(outputs(&l, 44, |l| l), weaker(44)), Finding::Fine);
        // It is a hint, where no answer is lost.
        let hint = |given, other| {
            let diagnosis = diagnose(&[given, other], &l);
            diagnosis.likelier().map(|s| (s.variant, s.shift, s.right))
        };
        let flat = || vec![vec![0.0; 1000]; 60];
        assert_eq!(hint(flat(), outputs(&l, 44, |l| l)), Some((1, 0, 44)));
        assert_eq!(hint(outputs(&l, 44, |l| l), flat()), None);
        assert_eq!(hint(outputs(&l, 44, |l| l), weaker(44)), None);
        assert_eq!(found(outputs(&l, 20, |l| l), weaker(23)), Finding::Low);
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
        let show = |variant: usize, rgb: &[u8]| all[variant].preprocessing.normalize(rgb);
        assert_eq!(show(0, &[10, 20, 30]), show(1, &[30, 20, 10]));
        assert_ne!(show(0, &[10, 20, 30]), show(1, &[10, 20, 30]));
    }
}
