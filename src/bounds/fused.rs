//! The channel recursion over linear chains: matrices that no activation separates are multiplied first.

use super::expression::{Both, Expression, SourceId, Sources, is_padded};
use super::vectors::{Vectors, affine, rearranged};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, Conv, Node, Op, Pad};

/// Each value without an activation is kept as `sum_t M_t s_t` over earlier values `s_t`.
pub(super) struct Fused {
    /// Clamps the error by what the magnitudes allow.
    pub cap: bool,
}

/// What is known of a value.
struct Known {
    bounds: Both<Vectors>,
    /// Its form over earlier values, when there is one.
    expression: Option<Expression>,
    /// Its own number as a source, once it is used as one.
    source: Option<SourceId>,
}

impl Known {
    /// The value as an expression, over itself when it has no other form.
    fn as_expression(&mut self, sources: &mut Sources) -> Expression {
        if let Some(expression) = &self.expression
            && expression.is_extensible()
        {
            return expression.clone();
        }
        let id = *self
            .source
            .get_or_insert_with(|| sources.add(self.bounds.clone()));
        Expression::source(sources, id)
    }

    fn is_chain(&self) -> bool {
        self.expression
            .as_ref()
            .is_some_and(Expression::is_extensible)
    }
}

impl Bound for Fused {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::FUSED_CAP
        } else {
            &facts::FUSED
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        Ok(both(setting)[usize::from(self.cap)].clone())
    }
}

/// The bounds without and with caps, which share all products of matrices.
pub(super) fn both<'s>(setting: &'s Setting<'_>) -> &'s Both<Series> {
    setting.fused(|| evaluate(setting))
}

fn evaluate(setting: &Setting) -> Both<Series> {
    let input = || Vectors::of_input(setting);
    let mut sources = Sources::new();
    let mut values = vec![Known {
        bounds: [input(), input()],
        expression: None,
        source: None,
    }];
    let last_uses = setting.network().last_uses();
    let mut errors = [Vec::new(), Vec::new()];
    for (i, node) in setting.network().nodes.iter().enumerate() {
        let mut known = before_activation(setting, i, node, &mut values, &mut sources);
        let [free, capped] = known.bounds;
        known.bounds = [(free, false), (capped, true)]
            .map(|(bounds, cap)| bounds.activated(setting, i, node.activation, cap));
        if node.activation != Activation::Identity {
            known.expression = None;
        }
        for (errors, bounds) in errors.iter_mut().zip(&known.bounds) {
            errors.push(bounds.error.max_entry());
        }
        values.push(known);
        for &v in &node.inputs {
            if last_uses[v] == Some(i) {
                values[v].expression = None;
            }
        }
    }
    errors.map(Series::of)
}

fn least(a: &Both<Vectors>, b: &Both<Vectors>) -> Both<Vectors> {
    std::array::from_fn(|i| a[i].min(&b[i]))
}

/// The bounds on a node's inputs.
fn inputs_of<'v>(node: &Node, values: &'v [Known]) -> Both<Vec<&'v Vectors>> {
    [0, 1].map(|i| node.inputs.iter().map(|&v| &values[v].bounds[i]).collect())
}

fn before_activation(
    setting: &Setting,
    index: usize,
    node: &Node,
    values: &mut [Known],
    sources: &mut Sources,
) -> Known {
    let linear = node.activation == Activation::Identity;
    let first = node.inputs[0];
    let plain = |bounds: Both<Vectors>| Known {
        bounds,
        expression: None,
        source: None,
    };
    match &node.op {
        Op::Conv(_) | Op::Linear(_) => {
            let bounds = values[first].bounds.each_ref();
            let bounds = bounds.map(|x| affine(setting, index, x));
            let keep = linear && starts_or_continues_chain(setting, index);
            if !values[first].is_chain() && !keep {
                return plain(bounds);
            }
            let mut input = values[first].as_expression(sources);
            if is_strided(node) {
                input = input.relocated(sources);
            }
            match input.through(setting, index, sources, keep) {
                Some((fused, expression)) => Known {
                    bounds: least(&bounds, &fused),
                    expression,
                    source: None,
                },
                None => plain(bounds),
            }
        }
        Op::Add => {
            let bounds = inputs_of(node, values).map(|parts| Vectors::sum(&parts));
            if !node.inputs.iter().any(|&v| values[v].is_chain()) {
                return plain(bounds);
            }
            let parts: Vec<Expression> = node
                .inputs
                .iter()
                .map(|&v| values[v].as_expression(sources))
                .collect();
            let sum = Expression::sum(&parts);
            Known {
                bounds: least(&bounds, &sum.bounds(sources)),
                expression: linear.then_some(sum),
                source: None,
            }
        }
        op => {
            let bounds = inputs_of(node, values).map(|inputs| rearranged(setting, node, &inputs));
            let expression = values[first].expression.as_ref().filter(|_| linear);
            let expression = match op {
                Op::Flatten => {
                    let single = setting.network().shape(first).pixels() == 1;
                    expression.filter(|_| single).cloned()
                }
                Op::GlobalAvgPool | Op::AvgPool { .. } => {
                    // An average of weights that sum to 1 keeps constants; one that counts padding does not.
                    let counts_padding = matches!(op, Op::AvgPool { window, count_include_pad: true }
                        if window.pad != Pad::default());
                    expression
                        .filter(|_| !counts_padding)
                        .map(|e| e.relocated(sources))
                }
                _ => None,
            };
            Known {
                bounds,
                expression,
                source: None,
            }
        }
    }
}

/// True for a layer that reads one pixel and no padding, so that it composes with what follows.
fn starts_or_continues_chain(setting: &Setting, index: usize) -> bool {
    let single = setting.affine(index).is_some_and(|(a, _)| a.taps == 1);
    single && !is_padded(setting, index)
}

/// True when output pixels are not the input's pixels one by one.
fn is_strided(node: &Node) -> bool {
    matches!(&node.op, Op::Conv(Conv { stride, .. }) if *stride != [1, 1])
}
