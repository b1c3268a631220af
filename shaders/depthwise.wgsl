// Depthwise convolution: output channel c reads input channel c. Each invocation makes 7 neighbouring pixels of a
// row x 4 channels.
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
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    dilation_h: u32,
    dilation_w: u32,
    activation: u32,
    // How far apart the weights (in vec4s) and the channels of the variants are.
    weights_step: u32,
    channels_step: u32,
    // Invocations per image; `images` are of one variant, `all` those of all of them.
    items: u32,
    all: u32,
    // Bits of one stored weight.
    field: u32,
}

// Horizontal step of a dense kernel 3 wide, which then loads each column once; 0 for any other geometry.
override STEP_W: u32 = 0u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

const COLUMNS: u32 = 7u;

// Arrays are indexed by constants alone: see lib/lanes.
var<private> acc: array<vec4<f32>, COLUMNS>;
var<private> cells: array<vec4<f32>, 15>;

// A row of x as a strip reads it: its first pixel and channels, the column under the strip's left end, and whether the row is
// one of the map.
struct Line {
    at: u32,
    left: i32,
    there: bool,
    c: u32,
}

// The pixel `by` columns from the left end; zero outside of the map.
fn cell(line: Line, by: u32) -> vec4<f32> {
    // Negative coordinates wrap to large ones.
    let column = u32(line.left + i32(by));
    let inside = line.there && column < p.in_w;
    return select(vec4<f32>(0.0), x[(line.at + select(0u, column, inside)) * p.c4 + line.c], inside);
}

fn load_cell(line: Line, j: u32) {
    if (j < (COLUMNS - 1u) * STEP_W + 3u) {
        cells[j] = cell(line, j);
    }
}

fn add_three(i: u32, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>) {
    let j = i * STEP_W;
    acc[i] = acc[i] + cells[j] * w0 + cells[j + 1u] * w1 + cells[j + 2u] * w2;
}

fn add_tap(line: Line, i: u32, w: vec4<f32>) {
    acc[i] = acc[i] + cell(line, i * p.stride_w) * w;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = invocation_of(group, groups, lane);
    let image = number / p.items;
    if (image >= p.all) {
        return;
    }
    let item = number % p.items;
    let strips = (p.out_w + COLUMNS - 1u) / COLUMNS;
    forget();
    make_strip(image, item / p.c4 / strips, item / p.c4 % strips * COLUMNS, item % p.c4);
    if (MEASURE) {
        keep(number, folded());
    }
}

fn make_strip(image: u32, row: u32, first: u32, c: u32) {
    let variant = variant_of(image);
    let top = i32(row * p.stride_h) - i32(p.pad_top);
    var line: Line;
    line.left = i32(first * p.stride_w) - i32(p.pad_left);
    line.c = c;
    acc = array<vec4<f32>, COLUMNS>();
    let channel = channels[variant * p.channels_step + c];
    for (var a = 0u; a < p.kernel_h; a++) {
        // Negative coordinates wrap to large ones.
        let in_row = u32(top + i32(a * p.dilation_h));
        line.there = in_row < p.in_h;
        line.at = (image * p.in_h + select(0u, in_row, line.there)) * p.in_w;
        let v = variant * p.weights_step + a * p.kernel_w * p.c4 + c;
        if (STEP_W == 0u) {
            for (var b = 0u; b < p.kernel_w; b++) {
                let w = weight(v + b * p.c4, channel.scale, channel.zero);
                var shifted = line;
                shifted.left += i32(b * p.dilation_w);
                add_tap(shifted, 0u, w);
                add_tap(shifted, 1u, w);
                add_tap(shifted, 2u, w);
                add_tap(shifted, 3u, w);
                add_tap(shifted, 4u, w);
                add_tap(shifted, 5u, w);
                add_tap(shifted, 6u, w);
            }
        } else {
            let w0 = weight(v, channel.scale, channel.zero);
            let w1 = weight(v + p.c4, channel.scale, channel.zero);
            let w2 = weight(v + 2u * p.c4, channel.scale, channel.zero);
            load_cell(line, 0u);
            load_cell(line, 1u);
            load_cell(line, 2u);
            load_cell(line, 3u);
            load_cell(line, 4u);
            load_cell(line, 5u);
            load_cell(line, 6u);
            load_cell(line, 7u);
            load_cell(line, 8u);
            load_cell(line, 9u);
            load_cell(line, 10u);
            load_cell(line, 11u);
            load_cell(line, 12u);
            load_cell(line, 13u);
            load_cell(line, 14u);
            add_three(0u, w0, w1, w2);
            add_three(1u, w0, w1, w2);
            add_three(2u, w0, w1, w2);
            add_three(3u, w0, w1, w2);
            add_three(4u, w0, w1, w2);
            add_three(5u, w0, w1, w2);
            add_three(6u, w0, w1, w2);
        }
    }
    let to = (row * p.out_w + first) * p.c4 + c;
    let index = channels_of(c) * (p.out_h * p.out_w) + row * p.out_w + first;
    let there = p.out_w - first;
    finish_pixel(image, variant, to, index, 0u, there, channel.bias);
    finish_pixel(image, variant, to, index, 1u, there, channel.bias);
    finish_pixel(image, variant, to, index, 2u, there, channel.bias);
    finish_pixel(image, variant, to, index, 3u, there, channel.bias);
    finish_pixel(image, variant, to, index, 4u, there, channel.bias);
    finish_pixel(image, variant, to, index, 5u, there, channel.bias);
    finish_pixel(image, variant, to, index, 6u, there, channel.bias);
}

// Stores pixel i of a strip of which `there` exist. `to` is the place of the first in its image, `index` its channel-major one.
fn finish_pixel(image: u32, variant: u32, to: u32, index: vec4<u32>, i: u32, there: u32, bias: vec4<f32>) {
    let size = p.out_h * p.out_w * p.c4;
    // Channels behind the last are zero here because they are in x, in the weights and in the bias.
    let value = activate(acc[i] + bias, p.activation);
    let at = to + select(0u, i * p.c4, i < there);
    if (i < there) {
        y[image * size + at] = value;
    }
    if (MEASURE) {
        look(reference[(image - variant * p.images) * size + at], value, index + i, i < there);
    }
}
