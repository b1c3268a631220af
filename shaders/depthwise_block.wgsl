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
}

override KERNEL: u32 = 3u;
override STRIDE: u32 = 1u;
override ACTIVATION: u32 = 0u;
// Columns and rows of y, at most 4 each.
override WIDE: u32 = 4u;
override TALL: u32 = 2u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

var<private> acc: array<vec4<f32>, 16>;
var<private> taps: array<vec4<f32>, 25>;
// One row of x.
var<private> cells: array<vec4<f32>, 11>;

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
// what is read.
fn line(i: u32, row: u32, at: u32, left: u32, interior: bool) {
    if (i < (TALL - 1u) * STRIDE + KERNEL && row < p.in_h) {
        for (var j = 0u; j < (WIDE - 1u) * STRIDE + KERNEL; j++) {
            cells[j] = x[at + j * p.c4];
        }
        if (!interior) {
            for (var j = 0u; j < (WIDE - 1u) * STRIDE + KERNEL; j++) {
                cells[j] = select(vec4<f32>(0.0), cells[j], left + j < p.in_w);
            }
        }
        add_line(0u, i);
        add_line(1u, i);
        add_line(2u, i);
        add_line(3u, i);
    }
}

// Stores row t of y, of which `there` pixels and rows exist.
fn finish(t: u32, to: u32, there: vec2<u32>) {
    if (t < TALL && t < there.y) {
        // One sum tells whether any of them may be NaN.
        var sum = acc[t * WIDE];
        for (var j = 1u; j < WIDE; j++) {
            sum = sum + acc[t * WIDE + j];
        }
        if (any(not_finite(sum))) {
            for (var j = 0u; j < WIDE; j++) {
                acc[t * WIDE + j] = activate(acc[t * WIDE + j], ACTIVATION);
            }
        } else {
            for (var j = 0u; j < WIDE; j++) {
                acc[t * WIDE + j] = clamped(acc[t * WIDE + j], ACTIVATION);
            }
        }
        for (var j = 0u; j < WIDE; j++) {
            if (j < there.x) {
                y[to + j * p.c4] = acc[t * WIDE + j];
            }
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let c = item % p.c4;
    let across = (p.out_w + WIDE - 1u) / WIDE;
    let along = (p.out_h + TALL - 1u) / TALL;
    let column = item / p.c4 % across * WIDE;
    let row = item / p.c4 / across % along * TALL;
    let image = item / p.c4 / across / along;
    if (image >= p.images) {
        return;
    }
    let channel = channels[c];
    for (var i = 0u; i < WIDE * TALL; i++) {
        acc[i] = channel.bias;
    }
    for (var i = 0u; i < KERNEL * KERNEL; i++) {
        taps[i] = weight(i * p.c4 + c, channel.scale, channel.zero);
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
    let there = min(vec2<u32>(p.out_w - column, p.out_h - row), vec2<u32>(WIDE, TALL));
    finish(0u, to, there);
    finish(1u, to + p.out_w * p.c4, there);
    finish(2u, to + 2u * p.out_w * p.c4, there);
    finish(3u, to + 3u * p.out_w * p.c4, there);
}
