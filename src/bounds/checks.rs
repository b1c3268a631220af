//! What two networks and a domain must be for any bound to speak of them.

use super::BoundError;
use super::domain::Domain;
use crate::network::{Network, Node, Op};

/// That a domain is a box of as many channels as the input.
pub(super) fn check_domain(network: &Network, domain: &Domain) -> Result<(), BoundError> {
    let wrong = |why: String| {
        Err(BoundError::Assumption {
            node: "input".into(),
            why,
        })
    };
    let channels = network.input.c;
    if domain.lo.len() != channels || domain.hi.len() != channels {
        return wrong(format!(
            "needs one interval for each of {channels} channels, got {} lower and {} upper ends",
            domain.lo.len(),
            domain.hi.len()
        ));
    }
    for (c, (lo, hi)) in domain.lo.iter().zip(&domain.hi).enumerate() {
        if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
            return wrong(format!(
                "channel {c} is not a finite interval: [{lo}, {hi}]"
            ));
        }
    }
    Ok(())
}

/// What two nodes of one graph share: everything but parameter values.
fn same_shape(a: &Node, b: &Node) -> bool {
    let ops = match (&a.op, &b.op) {
        (Op::Conv(p), Op::Conv(q)) => {
            let geometry = |c: &crate::network::Conv| (c.stride, c.pad, c.dilation, c.groups);
            geometry(p) == geometry(q) && p.weight.dims() == q.weight.dims()
        }
        (Op::Linear(p), Op::Linear(q)) => p.weight.dims() == q.weight.dims(),
        (p, q) => p == q,
    };
    ops && (a.activation, a.shape, &a.inputs) == (b.activation, b.shape, &b.inputs)
}

/// That two networks have one graph, of operations that have bounds.
pub(super) fn check_graph(network: &Network, quantized: &Network) -> Result<(), BoundError> {
    let differs = |node: &str, why: String| {
        Err(BoundError::Assumption {
            node: node.into(),
            why,
        })
    };
    if network.input != quantized.input || network.nodes.len() != quantized.nodes.len() {
        return differs(
            "input",
            format!(
                "both networks must have one graph: {} and {} nodes over {} and {}",
                network.nodes.len(),
                quantized.nodes.len(),
                network.input,
                quantized.input
            ),
        );
    }
    if let Some((node, assumption)) = network.beyond_bounds() {
        return differs(
            &node.name,
            format!("{assumption}: the network can be measured, but has no bounds"),
        );
    }
    for (a, b) in network.nodes.iter().zip(&quantized.nodes) {
        if !same_shape(a, b) {
            return differs(
                &a.name,
                format!(
                    "differs from the quantized network's {} in more than parameters",
                    b.name
                ),
            );
        }
    }
    Ok(())
}

/// That all parameters are finite.
pub(super) fn check_finite(node: &Node) -> Result<(), BoundError> {
    let Some(affine) = node.affine() else {
        return Ok(());
    };
    let all = affine.weight.iter().chain(affine.bias);
    match all.enumerate().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some((i, x)) => Err(BoundError::Assumption {
            node: node.name.clone(),
            why: format!("needs finite parameters, but weight-then-bias element {i} is {x}"),
        }),
    }
}
