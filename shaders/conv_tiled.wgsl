// Ungrouped convolution of any kernel size, stride, padding and dilation as an implicit matrix product, tiled in
// workgroup memory: its rows are the input channels of all taps, one tap after the other.
//
// x: [image][in_h][in_w][in_c4] vec4, y: [image][out_h][out_w][out_c4] vec4.
// Weights: blocks [tap][in_c4][chunk_c4] of 4 input x 4 output channels, output channel fastest.

struct Params {
    pixels: u32,
    in_h: u32,
    in_w: u32,
    in_c4: u32,
    out_h: u32,
    out_w: u32,
    // vec4s per pixel of y, channels of y, first vec4 and number of vec4s that this chunk of weights makes.
    out_c4: u32,
    out_c: u32,
    chunk_first: u32,
    chunk_c4: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    dilation_h: u32,
    dilation_w: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

// Where this lane's pixels read tap 0: row, column, and the vec4 there.
var<private> top: array<u32, 2>;
var<private> left: array<u32, 2>;
var<private> start: array<u32, 2>;
// At the current tap: whether a pixel is inside the map, and its first vec4.
var<private> inside: array<bool, 2>;
var<private> base: array<u32, 2>;
// The tap's distance from tap 0, the same for all lanes.
var<private> down: u32;
var<private> right: u32;

fn aim() {
    for (var i = 0u; i < P; i++) {
        inside[i] = top[i] + down < p.in_h && left[i] + right < p.in_w;
        base[i] = select(0u, start[i] + (down * p.in_w + right) * p.in_c4, inside[i]);
    }
}

fn begin(first: u32, lane: u32) {
    row = 0u;
    rows_left = p.in_c4;
    down = 0u;
    right = 0u;
    for (var i = 0u; i < P; i++) {
        let pixel = min(first + brought(i, lane), p.pixels - 1u);
        let line = pixel / p.out_w;
        // Coordinates above and left of the map wrap to large ones, and back where a tap is inside.
        left[i] = pixel % p.out_w * p.stride_w - p.pad_left;
        top[i] = line % p.out_h * p.stride_h - p.pad_top;
        start[i] = ((line / p.out_h * p.in_h + top[i]) * p.in_w + left[i]) * p.in_c4;
    }
    aim();
}

fn present(i: u32, k: u32) -> bool {
    return inside[i] && k < rows_left;
}

fn fetch(i: u32, k: u32) -> vec4<f32> {
    return x[base[i] + p.in_c4 - rows_left + k];
}

// A step does not reach into the next tap.
fn advance() {
    let taken = min(STEP, rows_left);
    row += taken;
    rows_left -= taken;
    if (rows_left == 0u) {
        rows_left = p.in_c4;
        right += p.dilation_w;
        if (right == p.kernel_w * p.dilation_w) {
            right = 0u;
            down += p.dilation_h;
        }
        aim();
    }
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
    multiply(first, first_out, p.chunk_c4, p.kernel_h * p.kernel_w * ((p.in_c4 + STEP - 1u) / STEP), lane);
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
