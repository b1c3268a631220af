// Activations by number: 0 is the identity, 1 ReLU, 2 ReLU6. Needs finite.

// Of values that are not NaN.
fn clamped(v: vec4<f32>, activation: u32) -> vec4<f32> {
    if (activation == 0u) {
        return v;
    }
    if (activation == 2u) {
        return clamp(v, vec4<f32>(0.0), vec4<f32>(6.0));
    }
    return max(v, vec4<f32>(0.0));
}

// NaN passes: min and max may swallow it.
fn activate(v: vec4<f32>, activation: u32) -> vec4<f32> {
    return select(clamped(v, activation), v, is_nan(v));
}
