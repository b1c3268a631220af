// Product of two maps, value by value, or of a map and one factor per channel; one invocation per 4 channels.

struct Params {
    // vec4s of all images.
    count: u32,
    // vec4s per pixel, pixels per image.
    c4: u32,
    pixels: u32,
    // 1 when factors is [image][c4], 0 when it has the shape of x.
    per_channel: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> factors: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

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
    var at = item;
    if (p.per_channel != 0u) {
        at = item / (p.pixels * p.c4) * p.c4 + item % p.c4;
    }
    y[item] = activate(x[item] * factors[at], p.activation);
}
