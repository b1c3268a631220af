// Sum of two maps; `accumulate` adds to what y holds instead of to `left`.

struct Params {
    count: u32,
    accumulate: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// NaN passes: min and max may swallow it.
fn activate(v: vec4<f32>) -> vec4<f32> {
    if (p.activation == 0u) {
        return v;
    }
    var clamped = max(v, vec4<f32>(0.0));
    if (p.activation == 2u) {
        clamped = min(clamped, vec4<f32>(6.0));
    }
    let is_nan = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(clamped, v, is_nan);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = (group.y * groups.x + group.x) * 64u + lane;
    if (item >= p.count) {
        return;
    }
    var sum = left[item];
    if (p.accumulate != 0u) {
        sum = y[item];
    }
    y[item] = activate(sum + right[item]);
}
