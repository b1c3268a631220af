//! Labels that are no truth for a network: of other classes, or right no more often than chance.

use super::model::LoadedModel;
use crate::data::ImageSet;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::results::schema::Summary;

/// Refuses labels of another data set: beyond the classes of every classifier. Beyond those of some, they are no labels to
/// those.
pub fn check_labels(
    models: &[LoadedModel],
    images: &ImageSet,
    tell: &mut dyn FnMut(Event),
) -> Result<(), SweepError> {
    let classifiers = models.iter().filter(|m| m.has_logits());
    let checked: Vec<_> = classifiers.map(|m| (m, m.check_labels(images))).collect();
    if checked.iter().any(|(_, fits)| fits.is_ok()) {
        for (model, _) in checked.iter().filter(|(_, fits)| fits.is_err()) {
            tell(Event::Note(format!(
                "note: {}: the labels are beyond its {} classes; it is measured without labels",
                model.network.name,
                model.network.output().c
            )));
        }
        return Ok(());
    }
    checked.into_iter().try_for_each(|(_, fits)| fits)
}

/// Says so where full precision is right no more often than chance: a mistake of labels, pixels or weights, most often.
pub fn doubt(models: &[LoadedModel], summary: &Summary, tell: &mut dyn FnMut(Event)) {
    for model in models.iter().filter(|m| !m.is_synthetic()) {
        let name = &model.network.name;
        let cell = summary.cells.iter().find(|c| c.key.model == *name);
        let Some((right, labelled)) =
            cell.and_then(|c| Some((c.output.top1_ref_right?, c.output.labelled)))
        else {
            continue;
        };
        if no_better_than_chance(right, labelled, model.network.output().c) {
            tell(Event::Note(format!(
                "note: {name} has {right} of {labelled} images right in full precision, no more than chance: labels, \
                 preprocessing or weights are not what it was trained with; `quantbound doctor --model ... --images ...` \
                 tries the usual mistakes"
            )));
        }
    }
}

/// True when a guesser has so many right, within two standard deviations; of few images nothing is said.
fn no_better_than_chance(right: u64, labelled: u64, classes: usize) -> bool {
    const FEW: u64 = 5;
    let (n, p) = (labelled as f64, 1.0 / classes.max(1) as f64);
    labelled >= FEW && right as f64 <= n * p + 2.0 * (n * p * (1.0 - p)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::no_better_than_chance;

    #[test]
    fn a_guesser_is_doubted_and_a_network_is_not() {
        assert!(no_better_than_chance(0, 20, 1000));
        assert!(!no_better_than_chance(1, 20, 1000));
        assert!(no_better_than_chance(4, 20, 10));
        assert!(!no_better_than_chance(12, 20, 10));
        assert!(!no_better_than_chance(0, 4, 1000), "too few to say");
    }
}
