// What a matrix product makes: stored, and where it is measured, reduced against the reference while it is in registers.
// Needs activation, grid and stats, the maps `y` and `reference`, and the parameters `p`.
//
// Kernels number places instead of pixels. A measured image's pixels are followed by places without one, up to a whole
// number of runs, so that a run, of which one partial result is kept, is of one image. Unmeasured, all pixels count as one
// image's. Maps hold the images of all variants, one variant after the other; `reference` is the same for all.

override MEASURE: bool = false;

@group(0) @binding(5) var<storage, read> reference: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> partials: array<vec4<u32>>;

var<private> variant: u32;

// A place by its image and its place there.
struct Spot {
    image: u32,
    local: u32,
}

fn spot(place: u32) -> Spot {
    return Spot(place / p.padded, place % p.padded);
}

// The place `by` places on, within the same run where there are runs.
fn onward(s: Spot, by: u32) -> Spot {
    let local = s.local + by;
    let over = local >= p.padded;
    return Spot(s.image + select(0u, 1u, over), local - select(0u, p.padded, over));
}

fn is_pixel(s: Spot) -> bool {
    return s.local < p.image_pixels && s.image * p.padded < p.places;
}

// The number of its pixel among the variant's, of the nearest one where there is none.
fn pixel_of(s: Spot) -> u32 {
    return min(s.image * p.image_pixels + min(s.local, p.image_pixels - 1u), p.pixels - 1u);
}

// Stores the products' sum at a place, for vec4 `out` of this chunk's channels, where there is such a place and vec4.
fn make(s: Spot, out: u32, sum: vec4<f32>, bias: vec4<f32>, there: bool) {
    let c = p.chunk_first + min(out, p.chunk_c4 - 1u);
    let own = channels_of(c);
    let value = select(vec4<f32>(0.0), activate(sum + bias, p.activation), own < vec4<u32>(p.out_c));
    let pixel = pixel_of(s);
    if (there) {
        y[(variant * p.pixels + pixel) * p.out_c4 + c] = value;
    }
    if (MEASURE) {
        look(reference[pixel * p.out_c4 + c], value, own * p.image_pixels + s.local, there);
    }
}

// Where the partial result of a run goes that has this place, for a column of this chunk's channels.
fn slot_of(s: Spot, column: u32) -> u32 {
    let image = variant * (p.places / p.padded) + s.image;
    return image * p.slots + s.local / p.run * p.columns + p.column_first + column;
}

// The same at the place `r` places on from the first of a run.
fn make_row(first: Spot, r: u32, out: u32, sum: vec4<f32>, bias: vec4<f32>) {
    let s = onward(first, r);
    make(s, out, sum, bias, is_pixel(s) && out < p.chunk_c4);
}
