// Largest element of each image's map of nonnegative numbers, how many allow every value of
// an activation's range around y (within reach of it), and how many are infinite or NaN:
// each workgroup adds one chunk of one image to that image's four numbers. Maxima and counts do not depend on the
// order.
//
// e, y, reach: [image][pixels][c4] vec4. found: (bits of the largest finite element, elements without news, infinite,
// NaN) per image.

struct Params {
    // vec4s of one image's map, chunks per image, chunks of all images.
    size: u32,
    chunks: u32,
    total: u32,
    // First image's place in `found`.
    base: u32,
    c4: u32,
    c: u32,
    // 1 when the activation's range is [0, 6]; 2 and more to read the reach.
    parts: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> e: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> reach: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> found: array<atomic<u32>>;

const LANES: u32 = 64u;
const STEPS: u32 = 32u;

var<workgroup> largest: atomic<u32>;
var<workgroup> capped: atomic<u32>;
var<workgroup> infinite: atomic<u32>;
var<workgroup> undefined: atomic<u32>;

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
    if (lane == 0u) {
        atomicStore(&largest, 0u);
        atomicStore(&capped, 0u);
        atomicStore(&infinite, 0u);
        atomicStore(&undefined, 0u);
    }
    workgroupBarrier();
    let image = item / p.chunks;
    let first = item % p.chunks * LANES * STEPS;
    var mine = vec4<u32>(0u);
    for (var step = 0u; step < STEPS; step++) {
        let i = first + step * LANES + lane;
        if (i >= p.size) {
            break;
        }
        let size = e[image * p.size + i];
        let bits = bitcast<vec4<u32>>(size) & vec4<u32>(0x7fffffffu);
        var low = vec4<f32>(0.0);
        var high = vec4<f32>(0.0);
        if ((p.parts & 1u) != 0u) {
            low = y[image * p.size + i];
            high = low;
            if ((p.parts & 2u) != 0u) {
                let span = reach[image * p.size + i];
                low = max(low - span, vec4<f32>(0.0));
                high = min(high + span, vec4<f32>(6.0));
            }
        }
        let everything = max(high, vec4<f32>(6.0) - low);
        for (var j = 0u; j < 4u; j++) {
            if (i % p.c4 * 4u + j >= p.c) {
                break;
            }
            if (bits[j] > 0x7f800000u) {
                mine.w += 1u;
            } else if (bits[j] == 0x7f800000u) {
                mine.z += 1u;
            } else {
                mine.x = max(mine.x, bits[j]);
                mine.y += select(0u, 1u, (p.parts & 1u) != 0u && size[j] >= everything[j]);
            }
        }
    }
    atomicMax(&largest, mine.x);
    atomicAdd(&capped, mine.y);
    atomicAdd(&infinite, mine.z);
    atomicAdd(&undefined, mine.w);
    workgroupBarrier();
    if (lane == 0u) {
        let slot = (p.base + image) * 4u;
        atomicMax(&found[slot], atomicLoad(&largest));
        atomicAdd(&found[slot + 1u], atomicLoad(&capped));
        atomicAdd(&found[slot + 2u], atomicLoad(&infinite));
        atomicAdd(&found[slot + 3u], atomicLoad(&undefined));
    }
}
