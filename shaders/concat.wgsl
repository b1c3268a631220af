// Copies one map's channels into a wider map from channel `offset` on; one invocation per value. The last map of a
// concatenation also writes the zeros behind the last channel.
//
// x: [pixels][stride_in] f32, y: [pixels][stride_out] f32.

struct Params {
    // Pixels of all images.
    pixels: u32,
    // Channels of x, values per pixel of x and of y.
    c: u32,
    stride_in: u32,
    stride_out: u32,
    offset: u32,
    // Values written per pixel; those past `c` are zeros.
    width: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
    let pixel = item / p.width;
    let c = item % p.width;
    if (pixel >= p.pixels) {
        return;
    }
    var v = 0.0;
    if (c < p.c) {
        v = activate(vec4<f32>(x[pixel * p.stride_in + c])).x;
    }
    y[pixel * p.stride_out + p.offset + c] = v;
}
