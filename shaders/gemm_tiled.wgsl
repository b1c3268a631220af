// Matrix product over pixels (1x1 convolution, dense layer), tiled in workgroup memory.
//
// x: [pixels][in_c4] vec4, y: [pixels][out_c4] vec4.
// Weights: blocks [in_c4][chunk_c4] of 4 input x 4 output channels, output channel fastest.

struct Params {
    // Of one variant.
    pixels: u32,
    in_c4: u32,
    // vec4s per pixel of y, channels of y, first vec4 and number of vec4s that this chunk of weights makes.
    out_c4: u32,
    out_c: u32,
    chunk_first: u32,
    chunk_c4: u32,
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

// The first vec4 of each pixel that this lane brings.
var<private> base: array<u32, 2>;

fn begin(first: u32, step: u32, lane: u32) {
    row = step * STEP;
    rows_left = p.in_c4 - row;
    for (var i = 0u; i < P; i++) {
        base[i] = (variant * p.pixels + pixel_of(spot(first + brought(i, lane)))) * p.in_c4;
    }
}

// Places without a pixel repeat the nearest one and are not stored.
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
    make_tile(workgroup_of(group, groups), (p.in_c4 + STEP - 1u) / STEP, lane);
}
