// Matrix product over pixels (1x1 convolution, dense layer) in vectors of 8 lanes.
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
    // Parts that sums are cut into: 1 here.
    parts: u32,
    // Bits of one stored weight.
    field: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) place_in_vector: u32,
) {
    let work = work_of(workgroup_of(group, groups));
    variant = work.variant;
    // The same for all lanes.
    if (variant >= p.variants) {
        return;
    }
    start(work.out, p.chunk_c4, place_in_vector);
    // Places without a pixel repeat the nearest one and are not stored.
    var at: array<u32, ROWS>;
    let first = spot(work.first + lane * ROWS);
    var s = first;
    for (var r = 0u; r < ROWS; r++) {
        at[r] = (variant * p.pixels + pixel_of(s)) * p.in_c4;
        s = onward(s, 1u);
    }
    for (var k = 0u; k < p.in_c4; k++) {
        var values: array<vec4<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            values[r] = x[at[r] + k];
        }
        add_row(k, p.chunk_c4, values);
    }
    finish_vector(first, work.out);
}
