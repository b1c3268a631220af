// A layer's weights at bindings 2 to 4: packed codes or f32, with bias, scale and zero point of each channel.

struct Channel {
    bias: vec4<f32>,
    scale: vec4<f32>,
    zero: vec4<i32>,
}

// Bits of one stored weight: 2, 4, 8 or 16 for unsigned codes, 32 for f32.
override FIELD: u32 = 32u;

// One buffer, seen as packed codes and as f32.
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> floats: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;

// Weights `4 v ..` of the buffer, dequantized: four consecutive output channels of one input.
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
