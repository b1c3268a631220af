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

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let pixel = item / p.width;
    let c = item % p.width;
    if (pixel >= p.pixels) {
        return;
    }
    var v = 0.0;
    if (c < p.c) {
        v = activate(vec4<f32>(x[pixel * p.stride_in + c]), p.activation).x;
    }
    y[pixel * p.stride_out + p.offset + c] = v;
}
