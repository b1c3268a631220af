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

struct Channel {
    bias: vec4<f32>,
    scale: vec4<f32>,
    zero: vec4<i32>,
}

// Bits of one stored weight: 2, 4, 8 or 16 for unsigned codes, 32 for f32.
override FIELD: u32 = 32u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// One buffer, seen as packed codes and as f32.
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> floats: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

const ROWS: u32 = 8u;

// Four weights of consecutive output channels.
fn weight(v: u32, scale: vec4<f32>, zero: vec4<i32>) -> vec4<f32> {
    if (FIELD == 32u) {
        return floats[v];
    }
    var code: vec4<u32>;
    if (FIELD == 16u) {
        let a = codes[v * 2u];
        let b = codes[v * 2u + 1u];
        code = vec4<u32>(a & 0xffffu, a >> 16u, b & 0xffffu, b >> 16u);
    } else {
        let word = codes[v * FIELD / 8u] >> ((v * FIELD * 4u) & 31u);
        let shifts = vec4<u32>(0u, FIELD & 31u, (2u * FIELD) & 31u, (3u * FIELD) & 31u);
        code = (vec4<u32>(word) >> shifts) & vec4<u32>((1u << (FIELD & 31u)) - 1u);
    }
    return vec4<f32>(vec4<i32>(code) - zero) * scale;
}

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
    let lanes = vec4<u32>((p.chunk_first + out) * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let real = lanes < vec4<u32>(p.out_c);
    for (var r = 0u; r < ROWS; r++) {
        if (first + r < p.pixels) {
            let value = activate(acc[r] + channel.bias);
            y[(first + r) * p.out_c4 + p.chunk_first + out] = select(vec4<f32>(0.0), value, real);
        }
    }
}
