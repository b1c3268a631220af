// Depthwise convolution with a square dense kernel of 3 or 5 and a step of 1 or 2: each invocation makes WIDE x TALL
// pixels x 4 channels, and loads each pixel of x under them once.
//
// x: [image][in_h][in_w][c4] vec4, y: [image][out_h][out_w][c4] vec4.
// Weights: [tap][c4] vec4s of channels.

struct Params {
    images: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    c4: u32,
    pad_top: u32,
    pad_left: u32,
    // How far apart the weights (in vec4s) and the channels of the variants are.
    weights_step: u32,
    channels_step: u32,
    // Invocations and workgroups per image; `images` are of one variant, `all` those of all of them.
    items: u32,
    slots: u32,
    all: u32,
    // Bits of one stored weight.
    field: u32,
}

override KERNEL: u32 = 3u;
override STRIDE: u32 = 1u;
override ACTIVATION: u32 = 0u;
// Columns and rows of y, at most 4 each.
override WIDE: u32 = 4u;
override TALL: u32 = 2u;

// Whether the last block reads beyond the right end of x.
override RIGHT: bool = true;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

var<private> acc: array<vec4<f32>, 16>;
var<private> taps: array<vec4<f32>, 25>;
// Where tap 0 is, and the parameters of all.
var<private> place: u32;
var<private> scale: vec4<f32>;
var<private> zero: vec4<f32>;
// One row of x.
var<private> cells: array<vec4<f32>, 11>;

// Loads row a of the taps.
fn load_taps(a: u32) {
    for (var b = 0u; b < KERNEL; b++) {
        let i = a * KERNEL + b;
        taps[i] = weight(place + i * p.c4, scale, zero);
    }
}

// What row i of x, counted from the topmost that is read, adds to row t of y.
fn add_line(t: u32, i: u32) {
    if (t < TALL && i >= t * STRIDE && i - t * STRIDE < KERNEL) {
        for (var b = 0u; b < KERNEL; b++) {
            let w = taps[(i - t * STRIDE) * KERNEL + b];
            for (var j = 0u; j < WIDE; j++) {
                acc[t * WIDE + j] = acc[t * WIDE + j] + cells[j * STRIDE + b] * w;
            }
        }
    }
}

// Row i of x. `at` is the vec4 under the block's left end there; in a row or column outside of the map it is no matter
// what is read. Only the outermost rows and columns of a block can be outside.
fn line(i: u32, row: u32, at: u32, left: u32, interior: bool) {
    // Measured, the branches keep the registers few.
    let outermost = MEASURE || i < KERNEL / 2u || i >= (TALL - 1u) * STRIDE + KERNEL - KERNEL / 2u;
    if (i < (TALL - 1u) * STRIDE + KERNEL && (!outermost || row < p.in_h)) {
        for (var j = 0u; j < (WIDE - 1u) * STRIDE + KERNEL; j++) {
            cells[j] = x[at + j * p.c4];
        }
        if (!interior) {
            for (var k = 0u; k < KERNEL / 2u; k++) {
                let j = (WIDE - 1u) * STRIDE + KERNEL - 1u - k;
                cells[k] = select(vec4<f32>(0.0), cells[k], left + k < p.in_w);
                if (RIGHT) {
                    cells[j] = select(vec4<f32>(0.0), cells[j], left + j < p.in_w);
                }
            }
        }
        // Taps that one row of y alone reads are not kept longer than that.
        if (TALL == 1u) {
            load_taps(i);
        }
        add_line(0u, i);
        add_line(1u, i);
        add_line(2u, i);
        add_line(3u, i);
    }
}

// Stores row t of y, if it is not before row and pixel `own` of the block. `back` is how far y is ahead of the reference,
// `index` the channel-major index of its first pixel.
fn finish_line(t: u32, to: u32, own: vec2<u32>, back: u32, index: vec4<u32>) {
    if (t < TALL && (t == TALL - 1u || t >= own.y)) {
        for (var j = 0u; j < WIDE; j++) {
            let value = activate(acc[t * WIDE + j], ACTIVATION);
            if (j == WIDE - 1u || j >= own.x) {
                y[to + j * p.c4] = value;
                if (MEASURE) {
                    look(reference[to + j * p.c4 - back], value, index + j, true);
                }
            }
        }
    }
}

// A workgroup works on one image; where the layer is measured, what its lanes saw is kept as one.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = workgroup_of(group, groups);
    let image = number / p.slots;
    let item = number % p.slots * 64u + lane;
    forget();
    if (image < p.all && item < p.items) {
        make_block(image, item);
    }
    if (MEASURE) {
        let all = gathered(lane, folded());
        if (lane == 0u && image < p.all) {
            keep(number, all);
        }
    }
}

fn make_block(image: u32, item: u32) {
    let c = item % p.c4;
    let across = (p.out_w + WIDE - 1u) / WIDE;
    // The last blocks end where the map does; what they share with those before is theirs.
    let first = vec2<u32>(item / p.c4 % across * WIDE, item / p.c4 / across * TALL);
    let column = min(first.x, p.out_w - WIDE);
    let row = min(first.y, p.out_h - TALL);
    let own = first - vec2<u32>(column, row);
    let variant = variant_of(image);
    let channel = channels[variant * p.channels_step + c];
    for (var i = 0u; i < WIDE * TALL; i++) {
        acc[i] = channel.bias;
    }
    place = variant * p.weights_step + c;
    scale = channel.scale;
    zero = channel.zero;
    if (TALL > 1u) {
        for (var a = 0u; a < KERNEL; a++) {
            load_taps(a);
        }
    }
    // Rows and columns above and left of the map wrap to large ones, and back where a pixel is inside.
    let top = row * STRIDE - p.pad_top;
    let left = column * STRIDE - p.pad_left;
    let interior = left < p.in_w && left + (WIDE - 1u) * STRIDE + KERNEL <= p.in_w;
    let at = ((image * p.in_h + top) * p.in_w + left) * p.c4 + c;
    let next = p.in_w * p.c4;
    line(0u, top, at, left, interior);
    line(1u, top + 1u, at + next, left, interior);
    line(2u, top + 2u, at + 2u * next, left, interior);
    line(3u, top + 3u, at + 3u * next, left, interior);
    line(4u, top + 4u, at + 4u * next, left, interior);
    line(5u, top + 5u, at + 5u * next, left, interior);
    line(6u, top + 6u, at + 6u * next, left, interior);
    line(7u, top + 7u, at + 7u * next, left, interior);
    line(8u, top + 8u, at + 8u * next, left, interior);
    line(9u, top + 9u, at + 9u * next, left, interior);
    line(10u, top + 10u, at + 10u * next, left, interior);
    // Channels behind the last are zero here because they are in x, in the weights and in the bias.
    let to = ((image * p.out_h + row) * p.out_w + column) * p.c4 + c;
    let back = variant * p.images * p.out_h * p.out_w * p.c4;
    let index = channels_of(c) * (p.out_h * p.out_w) + row * p.out_w + column;
    let line_size = p.out_w * p.c4;
    finish_line(0u, to, own, back, index);
    finish_line(1u, to + line_size, own, back, index + p.out_w);
    finish_line(2u, to + 2u * line_size, own, back, index + 2u * p.out_w);
    finish_line(3u, to + 3u * line_size, own, back, index + 3u * p.out_w);
}
