// Matrix product over pixels (1x1 convolution, dense layer), blocked in registers: each invocation makes
// 8 pixels x 4 output channels straight from storage buffers.
//
// x: [pixels][in_c4] vec4, y: [pixels][out_c4] vec4.
// Weights: blocks [in_c4][chunk_c4] of 4 input x 4 output channels, output channel fastest.

struct Params {
    // Of one variant.
    pixels: u32,
    in_c4: u32,
    // vec4s per pixel of y, channels of y, first vec4 and number of vec4s that this chunk of weights makes.
    out_c4: u32,
    out_c: u32,
    chunk_first: u32,
    chunk_c4: u32,
    activation: u32,
    // Variants, and how far apart their weights (in vec4s) and channels are.
    variants: u32,
    weights_step: u32,
    channels_step: u32,
    // Places of one variant; pixels, places and places per run of an image.
    places: u32,
    image_pixels: u32,
    padded: u32,
    run: u32,
    // Partial results of an image and of a run, and the first of them that this chunk of weights makes.
    slots: u32,
    columns: u32,
    column_first: u32,
    // Parts that sums are cut into: 1 here.
    parts: u32,
    // Bits of one stored weight.
    field: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

const ROWS: u32 = 8u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let out = item % p.chunk_c4;
    let blocks = (p.places + ROWS - 1u) / ROWS;
    variant = item / p.chunk_c4 / blocks;
    if (variant >= p.variants) {
        return;
    }
    let first = spot(item / p.chunk_c4 % blocks * ROWS);
    // Places without a pixel repeat the nearest one and are not stored.
    var at: array<u32, ROWS>;
    var acc: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        at[r] = (variant * p.pixels + pixel_of(onward(first, r))) * p.in_c4;
        acc[r] = vec4<f32>(0.0);
    }
    let channel = channels[variant * p.channels_step + out];
    for (var k = 0u; k < p.in_c4; k++) {
        let v = variant * p.weights_step + (k * p.chunk_c4 + out) * 4u;
        let w0 = weight(v, channel.scale, channel.zero);
        let w1 = weight(v + 1u, channel.scale, channel.zero);
        let w2 = weight(v + 2u, channel.scale, channel.zero);
        let w3 = weight(v + 3u, channel.scale, channel.zero);
        for (var r = 0u; r < ROWS; r++) {
            let value = x[at[r] + k];
            acc[r] = acc[r] + value.x * w0 + value.y * w1 + value.z * w2 + value.w * w3;
        }
    }
    finish_rows(first, out, acc, channel.bias);
}
