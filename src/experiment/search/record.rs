//! What a search has seen so far.

use serde::{Deserialize, Serialize};

/// The best input and the way there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What the best input grew from.
    pub start: String,
    /// `max |y' - y|` of each input evaluated, in order; NaN where an element was not finite.
    #[serde(skip)]
    pub trace: Vec<f64>,
    /// What each of them grew from.
    pub starts: Vec<String>,
    /// The largest finite value seen, the given images' included; NaN without one.
    #[serde(skip)]
    pub best: f64,
    /// The largest finite value of the given images; NaN without one.
    #[serde(skip)]
    pub before: f64,
    /// The input that reached `best`.
    #[serde(skip)]
    pub input: Vec<f32>,
}

impl Record {
    /// Begins with the first of several inputs that were evaluated before, the one with the largest value.
    pub(super) fn new(values: &[f64], inputs: &[&[f32]], names: &[String]) -> Self {
        let mut record = Self {
            start: String::new(),
            trace: Vec::new(),
            starts: Vec::new(),
            best: f64::NAN,
            before: f64::NAN,
            input: inputs.first().map_or_else(Vec::new, |x| x.to_vec()),
        };
        for ((&value, &input), name) in values.iter().zip(inputs).zip(names) {
            record.take(value, name, input);
        }
        record.before = record.best;
        record
    }

    /// Notes one more evaluation; true when it is the best.
    pub(super) fn see(&mut self, value: f64, start: &str, input: &[f32]) -> bool {
        self.trace.push(value);
        self.starts.push(start.to_string());
        self.take(value, start, input)
    }

    fn take(&mut self, value: f64, start: &str, input: &[f32]) -> bool {
        let better = value.is_finite() && (self.best.is_nan() || value > self.best);
        if better {
            self.best = value;
            self.start = start.to_string();
            self.input.clear();
            self.input.extend(input);
        }
        better
    }

    /// Inputs evaluated.
    pub fn evaluations(&self) -> usize {
        self.trace.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_numbers_is_never_the_best() {
        let inputs: [&[f32]; 2] = [&[1.0], &[2.0]];
        let names = ["a", "b"].map(String::from);
        let mut record = Record::new(&[f64::NAN, 0.5], &inputs, &names);
        assert_eq!((record.best, record.before), (0.5, 0.5));
        for lost in [f64::NAN, f64::INFINITY] {
            assert!(!record.see(lost, "c", &[3.0]));
        }
        assert_eq!((record.best, record.start.as_str()), (0.5, "b"));
        assert!(record.see(0.75, "d", &[4.0]));
        assert_eq!((record.input, record.trace.len()), (vec![4.0], 3));
    }
}
