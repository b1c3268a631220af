// A layer's weights at bindings 2 to 4: packed codes or f32, with bias, scale and zero point of each channel. Needs the
// parameter `field`.

struct Channel {
    bias: vec4<f32>,
    scale: vec4<f32>,
    zero: vec4<f32>,
}

// Bits of one stored weight: 2, 4, 8 or 16 for unsigned codes, 32 for f32; 0 where the parameter says it, of codes of at most
// 8 bits: kernels of known width are faster on GPUs, those of any need be compiled once. Weights of several variants lie one after the other.
override FIELD: u32 = 32u;

// One buffer, seen as packed codes and as f32.
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> floats: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;

fn field() -> u32 {
    return select(FIELD, p.field, FIELD == 0u);
}

// Weights `4 v ..` of the buffer as they are stored: four consecutive output channels of one input.
fn stored(v: u32) -> vec4<u32> {
    if (FIELD == 32u) {
        return bitcast<vec4<u32>>(floats[v]);
    }
    if (FIELD == 16u) {
        return vec4<u32>(codes[v * 2u], codes[v * 2u + 1u], 0u, 0u);
    }
    if (FIELD == 8u) {
        return vec4<u32>(codes[v], 0u, 0u, 0u);
    }
    return vec4<u32>(codes[v * field() / 8u] >> ((v * field() * 4u) & 31u), 0u, 0u, 0u);
}

// What they stand for.
fn dequantized(word: vec4<u32>, scale: vec4<f32>, zero: vec4<f32>) -> vec4<f32> {
    if (FIELD == 32u) {
        return bitcast<vec4<f32>>(word);
    }
    var code: vec4<u32>;
    if (FIELD == 16u) {
        code = vec4<u32>(word.x & 0xffffu, word.x >> 16u, word.y & 0xffffu, word.y >> 16u);
    } else {
        let shifts = vec4<u32>(0u, field() & 31u, (2u * field()) & 31u, (3u * field()) & 31u);
        code = (vec4<u32>(word.x) >> shifts) & vec4<u32>((1u << (field() & 31u)) - 1u);
    }
    // Both are whole numbers of at most 16 bits: their difference is exact.
    return (vec4<f32>(code) - zero) * scale;
}

fn bias_of(channel: u32) -> vec4<f32> {
    return channels[channel].bias;
}

fn weight(v: u32, scale: vec4<f32>, zero: vec4<f32>) -> vec4<f32> {
    return dequantized(stored(v), scale, zero);
}
