// The second stage of a measurement: partial results of an image become fewer, in a fixed order.
//
// found: [image][count] partial results as in lib/stats; partials: one per chunk of an image.

struct Params {
    // Partial results of one image, and the chunks that they are cut into.
    count: u32,
    chunks: u32,
    // First of this tap's results, and the chunks of all images.
    base: u32,
    total: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> found: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<u32>>;

const LANES: u32 = 64u;
// Partial results that one lane merges.
const STEPS: u32 = 16u;

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
    let first = item % p.chunks * LANES * STEPS;
    var mine = nothing();
    for (var step = 0u; step < STEPS; step++) {
        let i = first + step * LANES + lane;
        if (i < p.count) {
            let a = found[(image * p.count + i) * 2u];
            let b = found[(image * p.count + i) * 2u + 1u];
            let sums = bitcast<vec4<f32>>(a);
            let refs = bitcast<vec4<f32>>(b);
            mine = merge(mine, Stats(sums.x, a.y, sums.z, sums.w, refs.x, refs.y, b.z));
        }
    }
    let all = gathered(lane, mine);
    if (lane == 0u) {
        keep(p.base + item, all);
    }
}
