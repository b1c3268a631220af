// Activations by number: 0 is the identity, 1 ReLU, 2 ReLU6. Needs finite.

// Of values that are not NaN. The bits of floats are in the order of the numbers from zero on, those of negative ones below
// zero; 6 has 0x40c00000.
fn clamped(v: vec4<f32>, activation: u32) -> vec4<f32> {
    let least = select(0, -0x7fffffff - 1, activation == 0u);
    let most = select(0x7fffffff, 0x40c00000, activation == 2u);
    return bitcast<vec4<f32>>(clamp(bitcast<vec4<i32>>(v), vec4<i32>(least), vec4<i32>(most)));
}

// NaN passes: by their bits they are clamped.
fn activate(v: vec4<f32>, activation: u32) -> vec4<f32> {
    return select(clamped(v, activation), v, is_nan(v));
}
