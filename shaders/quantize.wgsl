// Puts a map on the grid of its quantized activations, in place.

struct Params {
    // vec4s.
    count: u32,
    scale: f32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    if (item >= p.count) {
        return;
    }
    let v = y[item];
    // Ties to even. NaN and infinities pass, so that nothing hides them.
    let level = clamp(round(v / p.scale), vec4<f32>(p.low), vec4<f32>(p.high));
    y[item] = select(level * p.scale, v, not_finite(v));
}
