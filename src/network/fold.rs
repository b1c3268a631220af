//! Batch-norm folding: `gamma (Wx + b - mean) / sqrt(var + eps) + beta` as one affine map.

use crate::tensor::Tensor;

/// Frozen batch-norm statistics and parameters, one value per output channel.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Scale `gamma`.
    pub weight: Vec<f32>,
    /// Shift `beta`.
    pub bias: Vec<f32>,
    /// Running mean.
    pub mean: Vec<f32>,
    /// Running variance, not negative.
    pub var: Vec<f32>,
    /// Added to the variance.
    pub eps: f64,
}

impl BatchNorm {
    /// Per-channel `(scale, shift)` with `bn(y) = scale * y + shift`, in f64.
    pub fn scale_shift(&self) -> Vec<(f64, f64)> {
        (0..self.weight.len())
            .map(|c| {
                let scale = f64::from(self.weight[c]) / (f64::from(self.var[c]) + self.eps).sqrt();
                (
                    scale,
                    f64::from(self.bias[c]) - f64::from(self.mean[c]) * scale,
                )
            })
            .collect()
    }

    /// Folds into the preceding kernel (`[out, ...]`) and bias; each result is rounded to f32 once.
    /// `Err` says why it cannot be done.
    pub fn fold_into(&self, weight: &mut Tensor, bias: &mut [f32]) -> Result<(), &'static str> {
        if self.var.iter().any(|&v| v < 0.0) {
            return Err("a running variance is negative");
        }
        let row = weight.data().len() / bias.len().max(1);
        for (o, (scale, shift)) in self.scale_shift().into_iter().enumerate() {
            for w in &mut weight.data_mut()[o * row..(o + 1) * row] {
                *w = (f64::from(*w) * scale) as f32;
            }
            bias[o] = (f64::from(bias[o]) * scale + shift) as f32;
        }
        let finite = weight
            .data()
            .iter()
            .chain(bias.iter())
            .all(|x| x.is_finite());
        finite
            .then_some(())
            .ok_or("the folded weights are not finite")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_is_the_batch_norm_of_the_affine_map() {
        let bn = BatchNorm {
            weight: vec![2.0],
            bias: vec![0.5],
            mean: vec![1.0],
            var: vec![4.0],
            eps: 0.0,
        };
        let mut weight = Tensor::new([1, 2], vec![3.0, -1.0]).unwrap();
        let mut bias = [0.25f32];
        bn.fold_into(&mut weight, &mut bias).unwrap();
        assert_eq!(weight.data(), [3.0, -1.0]);
        assert_eq!(bias, [0.25 + 0.5 - 1.0]);
    }

    #[test]
    fn negative_variance_and_overflow_are_refused() {
        let mut bn = BatchNorm {
            weight: vec![1.0],
            bias: vec![0.0],
            mean: vec![0.0],
            var: vec![-1.0],
            eps: 1e-5,
        };
        let mut weight = Tensor::new([1, 1], vec![3.0]).unwrap();
        assert!(bn.fold_into(&mut weight, &mut [0.0]).is_err());
        bn.var = vec![0.0];
        bn.eps = 1e-300;
        assert!(bn.fold_into(&mut weight, &mut [0.0]).is_err());
    }
}
