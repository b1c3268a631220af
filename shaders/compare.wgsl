// Discrepancy statistics of chunks of a feature map: each workgroup reduces one chunk of one image in a fixed order.
//
// a, b: reference and variant, [image][pixels][c4] vec4. partials: as in lib/stats, one per chunk.

struct Params {
    pixels: u32,
    c4: u32,
    c: u32,
    chunks: u32,
    // First of this tap's partials.
    base: u32,
    // Chunks of all images, and the images of one variant.
    total: u32,
    images: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<u32>>;

const LANES: u32 = 64u;
// vec4s that one lane reduces; bounds the length of every f32 sum.
const STEPS: u32 = 32u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = workgroup_of(group, groups);
    if (item >= p.total) {
        return;
    }
    let image = item / p.chunks;
    let size = p.pixels * p.c4;
    let first = item % p.chunks * LANES * STEPS;

    forget();
    // Channel vec4 and pixel of element i, carried along instead of divided out at every step.
    var c = (first + lane) % p.c4;
    var pixel = (first + lane) / p.c4;
    let c_step = LANES % p.c4;
    let pixel_step = LANES / p.c4;
    for (var step = 0u; step < STEPS; step++) {
        let i = first + step * LANES + lane;
        if (i >= size) {
            break;
        }
        let own = channels_of(c);
        let real = own < vec4<u32>(p.c);
        let zero = vec4<f32>(0.0);
        look(
            select(zero, a[image % p.images * size + i], real),
            select(zero, b[image * size + i], real),
            own * p.pixels + pixel,
            true,
        );
        c += c_step;
        pixel += pixel_step;
        if (c >= p.c4) {
            c -= p.c4;
            pixel += 1u;
        }
    }

    let all = gathered(lane, folded());
    if (lane == 0u) {
        keep(p.base + item, all);
    }
}
