// A function of every value: 0 is the sigmoid, 1 the hard sigmoid, 2 the hard swish. One invocation per 4 channels;
// those behind the last channel stay zeros.

struct Params {
    // vec4s of all images.
    count: u32,
    // Channels, and vec4s that hold them.
    channels: u32,
    c4: u32,
    function: u32,
    // Of the hard functions: clamp(slope x + offset, 0, 1).
    slope: f32,
    offset: f32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// Nothing overflows: the exponent is never positive.
fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    let t = exp(-abs(v));
    return select(t, vec4<f32>(1.0), v >= vec4<f32>(0.0)) / (1.0 + t);
}

fn value(v: vec4<f32>) -> vec4<f32> {
    if (p.function == 0u) {
        return sigmoid(v);
    }
    let gate = clamp(v * p.slope + p.offset, vec4<f32>(0.0), vec4<f32>(1.0));
    return select(gate, v * gate, p.function == 2u);
}

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
    let v = x[item];
    // NaN passes: clamp may swallow it.
    let f = select(value(v), v, is_nan(v));
    let c = vec4<u32>(item % p.c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    y[item] = select(vec4<f32>(0.0), activate(f, p.activation), c < vec4<u32>(p.channels));
}
