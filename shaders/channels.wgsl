// Some channels of a map, in an order of their own; one invocation per value, those behind the last channel are zeros.
//
// x: [pixels][stride_in] f32, y: [pixels][stride_out] f32.

struct Params {
    // Pixels of all images.
    pixels: u32,
    // Channels of y, values per pixel of x and of y.
    count: u32,
    stride_in: u32,
    stride_out: u32,
    // Channel c of y is channel first + step_within (c mod inner) + step_between (c div inner) of x.
    first: u32,
    inner: u32,
    step_within: u32,
    step_between: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let pixel = item / p.stride_out;
    let c = item % p.stride_out;
    if (pixel >= p.pixels) {
        return;
    }
    var v = 0.0;
    if (c < p.count) {
        let source = p.first + p.step_within * (c % p.inner) + p.step_between * (c / p.inner);
        v = activate(vec4<f32>(x[pixel * p.stride_in + source]), p.activation).x;
    }
    y[item] = v;
}
