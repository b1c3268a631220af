// The second stage of a tiled matrix product in parts: adds the parts' sums in their order and makes the output of them.
//
// sums: [part][variant][pixel][chunk_c4] vec4, y: [pixels][out_c4] vec4.

struct Params {
    // Of one variant.
    pixels: u32,
    // vec4s per pixel of y, channels of y, first vec4 and number of vec4s that this chunk of weights makes.
    out_c4: u32,
    out_c: u32,
    chunk_first: u32,
    chunk_c4: u32,
    activation: u32,
    // Variants, and how far apart their channels are.
    variants: u32,
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
    parts: u32,
    // Bits of one stored weight.
    field: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> tile_x: array<vec4<f32>, 128>;

// A workgroup makes 32 places x 8 vec4s of output channels.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = workgroup_of(group, groups);
    let across = (p.chunk_c4 + 7u) / 8u;
    let rows = (p.places + 31u) / 32u;
    variant = item / across / rows;
    if (variant >= p.variants) {
        return;
    }
    let s = spot(item / across % rows * 32u + lane / 8u * 4u);
    let out = item % across * 8u + lane % 8u;
    let bias = bias_of(variant * p.channels_step + min(out, p.chunk_c4 - 1u));
    forget();
    for (var r = 0u; r < 4u; r++) {
        let here = onward(s, r);
        if (is_pixel(here) && out < p.chunk_c4) {
            var sum = sums[sum_at(0u, here, out)];
            for (var part = 1u; part < p.parts; part++) {
                sum = sum + sums[sum_at(part, here, out)];
            }
            make(here, out, sum, bias, true);
        }
    }
    if (MEASURE) {
        keep_run(s, item % across, lane);
    }
}
