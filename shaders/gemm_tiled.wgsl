// Matrix product over pixels (1x1 convolution, dense layer), tiled in workgroup memory.
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

// The first vec4 of each pixel that this lane brings.
var<private> base: array<u32, 2>;

fn begin(first: u32, lane: u32) {
    row = 0u;
    rows_left = p.in_c4;
    for (var i = 0u; i < P; i++) {
        base[i] = min(first + brought(i, lane), p.pixels - 1u) * p.in_c4;
    }
}

// Pixels past the end repeat the last one and are not stored.
fn present(i: u32, k: u32) -> bool {
    return k < rows_left;
}

fn fetch(i: u32, k: u32) -> vec4<f32> {
    return x[base[i] + row + k];
}

fn advance() {
    row += STEP;
    rows_left -= STEP;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = workgroup_of(group, groups);
    let columns = (p.chunk_c4 + 8u * Q - 1u) / (8u * Q);
    let first = item / columns * 4u * P * DOWN;
    let first_out = item % columns * 8u * Q;
    if (first >= p.pixels) {
        return;
    }
    multiply(first, first_out, p.chunk_c4, (p.in_c4 + STEP - 1u) / STEP, lane);
    for (var q = 0u; q < Q; q++) {
        let out = first_out + q * 8u + lane % 8u;
        if (out < p.chunk_c4) {
            let bias = channels[out].bias;
            let real = channels_of(p.chunk_first + out) < vec4<u32>(p.out_c);
            for (var r = 0u; r < 4u * P; r++) {
                let pixel = first + made(r, lane);
                if (pixel < p.pixels) {
                    let value = activate(acc[q * 4u * P + r] + bias, p.activation);
                    y[pixel * p.out_c4 + p.chunk_first + out] = select(vec4<f32>(0.0), value, real);
                }
            }
        }
    }
}
