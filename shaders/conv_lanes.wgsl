// Ungrouped convolution of any kernel size, stride, padding and dilation in vectors of 8 lanes.
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
    var top: array<u32, ROWS>;
    var left: array<u32, ROWS>;
    var image: array<u32, ROWS>;
    let first = spot(work.first + lane * ROWS);
    var s = first;
    for (var r = 0u; r < ROWS; r++) {
        let pixel = variant * p.pixels + pixel_of(s);
        let line = pixel / p.out_w;
        // Coordinates above and left of the map wrap to large ones.
        left[r] = pixel % p.out_w * p.stride_w - p.pad_left;
        top[r] = line % p.out_h * p.stride_h - p.pad_top;
        image[r] = line / p.out_h * p.in_h * p.in_w;
        s = onward(s, 1u);
    }
    for (var tap = 0u; tap < p.kernel_h * p.kernel_w; tap++) {
        let down = tap / p.kernel_w * p.dilation_h;
        let right = tap % p.kernel_w * p.dilation_w;
        var at: array<u32, ROWS>;
        var inside: array<bool, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let line = top[r] + down;
            let column = left[r] + right;
            inside[r] = line < p.in_h && column < p.in_w;
            at[r] = select(0u, (image[r] + line * p.in_w + column) * p.in_c4, inside[r]);
        }
        for (var k = 0u; k < p.in_c4; k++) {
            var values: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                values[r] = select(vec4<f32>(0.0), x[at[r] + k], inside[r]);
            }
            add_row(tap * p.in_c4 + k, p.chunk_c4, values);
        }
    }
    finish_vector(first, work.out);
}
