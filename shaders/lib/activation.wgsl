// Activations by number: 0 is the identity, 1 ReLU, 2 ReLU6. Needs finite.

// NaN passes: min and max may swallow it.
fn activate(v: vec4<f32>, activation: u32) -> vec4<f32> {
    if (activation == 0u) {
        return v;
    }
    var clamped = max(v, vec4<f32>(0.0));
    if (activation == 2u) {
        clamped = min(clamped, vec4<f32>(6.0));
    }
    return select(clamped, v, is_nan(v));
}
