// Matrix product over pixels (1x1 convolution, dense layer), blocked in registers: each invocation makes
// 8 pixels x 4 output channels straight from storage buffers.
//
// x: [pixels][in_c4] vec4, y: [pixels][out_c4] vec4.
// Weights: blocks [in_c4][chunk_c4] of 4 input x 4 output channels, output channel fastest.

struct Params {
    pixels: u32,
    in_c4: u32,
    // vec4s per pixel of y, channels of y, first vec4 and number of vec4s that this chunk of weights makes.
    out_c4: u32,
    out_c: u32,
    chunk_first: u32,
    chunk_c4: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

const ROWS: u32 = 8u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let out = item % p.chunk_c4;
    let first = item / p.chunk_c4 * ROWS;
    if (first >= p.pixels) {
        return;
    }
    // Rows past the end repeat the last pixel and are not stored.
    var at: array<u32, ROWS>;
    var acc: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        at[r] = min(first + r, p.pixels - 1u) * p.in_c4;
        acc[r] = vec4<f32>(0.0);
    }
    let channel = channels[out];
    for (var k = 0u; k < p.in_c4; k++) {
        let v = (k * p.chunk_c4 + out) * 4u;
        let w0 = weight(v, channel.scale, channel.zero);
        let w1 = weight(v + 1u, channel.scale, channel.zero);
        let w2 = weight(v + 2u, channel.scale, channel.zero);
        let w3 = weight(v + 3u, channel.scale, channel.zero);
        for (var r = 0u; r < ROWS; r++) {
            let value = x[at[r] + k];
            acc[r] = acc[r] + value.x * w0 + value.y * w1 + value.z * w2 + value.w * w3;
        }
    }
    let lanes = channels_of(p.chunk_first + out);
    let real = lanes < vec4<u32>(p.out_c);
    for (var r = 0u; r < ROWS; r++) {
        if (first + r < p.pixels) {
            let value = activate(acc[r] + channel.bias, p.activation);
            y[(first + r) * p.out_c4 + p.chunk_first + out] = select(vec4<f32>(0.0), value, real);
        }
    }
}
