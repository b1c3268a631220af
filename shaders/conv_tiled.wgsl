// Ungrouped convolution of any kernel size, stride, padding and dilation as an implicit matrix product, tiled in
// workgroup memory: its rows are the input channels of all taps, one tap after the other.
//
// x: [image][in_h][in_w][in_c4] vec4, y: [image][out_h][out_w][out_c4] vec4.
// Weights: blocks [tap][in_c4][chunk_c4] of 4 input x 4 output channels, output channel fastest.

struct Params {
    // Of one variant.
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
    // Parts that sums are cut into.
    parts: u32,
    // Bits of one stored weight.
    field: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

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

fn begin(first: u32, step: u32, lane: u32) {
    let steps = (p.in_c4 + STEP - 1u) / STEP;
    let tap = step / steps;
    let k = step % steps * STEP;
    row = tap * p.in_c4 + k;
    rows_left = p.in_c4 - k;
    down = tap / p.kernel_w * p.dilation_h;
    right = tap % p.kernel_w * p.dilation_w;
    for (var i = 0u; i < P; i++) {
        let pixel = variant * p.pixels + pixel_of(spot(first + brought(i, lane)));
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
    make_tile(workgroup_of(group, groups), p.kernel_h * p.kernel_w * ((p.in_c4 + STEP - 1u) / STEP), lane);
}
