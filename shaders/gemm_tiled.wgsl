// Matrix product over pixels (1x1 convolution, dense layer), tiled in workgroup memory: each workgroup makes
// 64 pixels x 64 output channels, each invocation 4 pixels x 4 output channels.
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

const TILE_PIXELS: u32 = 64u;
const TILE_C4: u32 = 16u;
// vec4s of input channels per step.
const TILE_K4: u32 = 4u;

var<workgroup> tile_x: array<vec4<f32>, 256>;
var<workgroup> tile_w: array<vec4<f32>, 256>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = workgroup_of(group, groups);
    let columns = (p.chunk_c4 + TILE_C4 - 1u) / TILE_C4;
    let first_pixel = item / columns * TILE_PIXELS;
    let first_out = item % columns * TILE_C4;
    let out = first_out + local.x;

    // What this invocation loads: one vec4 of x, and one vec4 of weights (4 output channels of one input channel).
    let load_pixel = first_pixel + lane / TILE_K4;
    let load_k4 = lane % TILE_K4;
    let load_out = first_out + lane / 16u;
    let load_k = lane % 16u;
    let load_channel = channels[min(load_out, p.chunk_c4 - 1u)];

    var acc: array<vec4<f32>, 4>;
    for (var r = 0u; r < 4u; r++) {
        acc[r] = vec4<f32>(0.0);
    }
    for (var step = 0u; step < p.in_c4; step += TILE_K4) {
        var value = vec4<f32>(0.0);
        if (load_pixel < p.pixels && step + load_k4 < p.in_c4) {
            value = x[load_pixel * p.in_c4 + step + load_k4];
        }
        var w = vec4<f32>(0.0);
        let k4 = step + load_k / 4u;
        if (load_out < p.chunk_c4 && k4 < p.in_c4) {
            w = weight((k4 * p.chunk_c4 + load_out) * 4u + load_k % 4u, load_channel.scale, load_channel.zero);
        }
        workgroupBarrier();
        tile_x[lane] = value;
        tile_w[load_k * TILE_C4 + lane / 16u] = w;
        workgroupBarrier();
        for (var k = 0u; k < TILE_K4; k++) {
            let w0 = tile_w[(k * 4u) * TILE_C4 + local.x];
            let w1 = tile_w[(k * 4u + 1u) * TILE_C4 + local.x];
            let w2 = tile_w[(k * 4u + 2u) * TILE_C4 + local.x];
            let w3 = tile_w[(k * 4u + 3u) * TILE_C4 + local.x];
            for (var r = 0u; r < 4u; r++) {
                let v = tile_x[(local.y * 4u + r) * TILE_K4 + k];
                acc[r] = acc[r] + v.x * w0 + v.y * w1 + v.z * w2 + v.w * w3;
            }
        }
    }
    if (out >= p.chunk_c4) {
        return;
    }
    let bias = channels[out].bias;
    let lanes = channels_of(p.chunk_first + out);
    let real = lanes < vec4<u32>(p.out_c);
    for (var r = 0u; r < 4u; r++) {
        let pixel = first_pixel + local.y * 4u + r;
        if (pixel < p.pixels) {
            let value = activate(acc[r] + bias, p.activation);
            y[pixel * p.out_c4 + p.chunk_first + out] = select(vec4<f32>(0.0), value, real);
        }
    }
}
