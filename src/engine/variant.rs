//! Quantized networks as engines hold them.

use std::any::Any;
use std::sync::Arc;

use super::EngineError;

/// Tells the variants of one runner from those of all others.
#[derive(Clone, Debug, Default)]
pub struct Owner(Arc<()>);

/// A quantized network uploaded to a runner, which alone can run it. What it takes is freed with the last handle to it,
/// or to the runner's own parts of it.
#[derive(Clone)]
pub struct Variant {
    owner: Owner,
    data: Arc<dyn Any + Send + Sync>,
    bytes: u64,
    only: Option<usize>,
}

impl std::fmt::Debug for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variant")
            .field("bytes", &self.bytes)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

impl Variant {
    /// What a runner keeps of a variant, and the bytes that takes where the runner works.
    pub fn new(owner: &Owner, bytes: u64, data: impl Any + Send + Sync) -> Self {
        Self {
            owner: owner.clone(),
            data: Arc::new(data),
            bytes,
            only: None,
        }
    }

    /// What the runner keeps of it.
    ///
    /// # Errors
    /// [`EngineError::Usage`] for a variant of another runner.
    pub fn data<T: Any>(&self, owner: &Owner) -> Result<&T, EngineError> {
        let own = Arc::ptr_eq(&self.owner.0, &owner.0);
        let data = own.then(|| self.data.downcast_ref()).flatten();
        data.ok_or_else(|| {
            EngineError::Usage(
                "the variant was loaded by another runner; load it into the one that runs it"
                    .into(),
            )
        })
    }

    /// Bytes that it takes where the runner works.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same with the weights of `node` alone quantized; nothing is uploaded. Its passes run that node and those
    /// downstream of it, on the full-precision values of all others, so that all layers together cost about half as
    /// much as a pass for each.
    pub fn alone(&self, node: usize) -> Self {
        Self {
            only: Some(node),
            ..self.clone()
        }
    }

    /// The node that is quantized alone; `None` for all of the variant's.
    pub fn only(&self) -> Option<usize> {
        self.only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_of_its_runner_and_goes_with_its_last_handle() {
        let (owner, other) = (Owner::default(), Owner::default());
        let kept = Arc::new(7);
        let variant = Variant::new(&owner, 4, kept.clone());
        let alone = variant.alone(3);
        assert_eq!((variant.only(), alone.only()), (None, Some(3)));
        assert_eq!(**alone.data::<Arc<i32>>(&owner).unwrap(), 7);
        assert!(variant.data::<Arc<i32>>(&other).is_err());
        assert!(variant.data::<String>(&owner).is_err());
        drop(variant);
        assert_eq!(Arc::strong_count(&kept), 2);
        drop(alone);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
