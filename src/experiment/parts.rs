//! The parts that a cell's rows are stored in, each named by what its rows follow from beside the cell.

use super::cell::Cell;
use super::code;
use super::plan::Plan;
use crate::results::store::Part;

/// Measurements and outputs of one batch; what they follow from is the cell.
pub fn measured(cell: &Cell, batch: u32) -> Part {
    Part::new(&cell.key.cell_id, "measure", "", Some(batch))
}

/// The bounds of a cell: those that the plan asks for, or all, by the code of this version.
pub fn bounds(cell: &Cell, plan: &Plan) -> Part {
    let depends_on = format!("{} {}", asked(plan), code::BOUNDS);
    Part::new(&cell.key.cell_id, "bounds", &depends_on, None)
}

/// What a study finds out about one batch, or about the whole cell.
pub fn studied(cell: &Cell, name: &str, depends_on: &str, batch: Option<u32>) -> Part {
    Part::new(&cell.key.cell_id, name, depends_on, batch)
}

/// The bounds that a plan asks for, whatever their order; `all` where it leaves them out.
pub fn asked(plan: &Plan) -> String {
    let Some(ids) = &plan.bounds else {
        return "all".to_string();
    };
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    format!("only {}", ids.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(bounds: &str) -> Plan {
        let text = format!(
            "batch = 1\n{bounds}\n[images]\ndir = \".\"\n[[model]]\nname = \"resnet18\"\nweights = \"random:1\"\n\
             [[quantize]]\nmethod = \"uniform\"\nbits = [8]\n"
        );
        Plan::parse(&text, Path::new("plan.toml")).unwrap()
    }

    #[test]
    fn bounds_are_asked_for_in_any_order_and_not_in_any_number() {
        let some = asked(&plan("bounds = [\"layerwise\", \"fused\"]"));
        assert_eq!(some, asked(&plan("bounds = [\"fused\", \"layerwise\"]")));
        assert_ne!(some, asked(&plan("bounds = [\"fused\"]")));
        assert_ne!(some, asked(&plan("")));
    }
}
