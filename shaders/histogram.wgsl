// Counts of a map's values in bins with dyadic edges: below, `count` bins, above. A workgroup counts one chunk in its
// own memory and adds that to the map's counts.
//
// x: [pixels][c4] vec4. counts: `count + 2` words from `base` on, zero before the first launch.

struct Params {
    // vec4s of all images.
    size: u32,
    c4: u32,
    c: u32,
    // 2^-exponent.
    inverse_width: f32,
    // Lower edge of the first bin, in widths.
    first: f32,
    count: u32,
    base: u32,
    // Workgroups.
    total: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;

const LANES: u32 = 64u;
const STEPS: u32 = 64u;
const MOST_CELLS: u32 = 2050u;

var<workgroup> own: array<atomic<u32>, MOST_CELLS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = workgroup_of(group, groups);
    let cells = p.count + 2u;
    for (var k = lane; k < cells; k += LANES) {
        atomicStore(&own[k], 0u);
    }
    workgroupBarrier();
    if (item < p.total) {
        for (var step = 0u; step < STEPS; step++) {
            let i = item * LANES * STEPS + step * LANES + lane;
            if (i >= p.size) {
                break;
            }
            let v = x[i];
            let channel = channels_of(i % p.c4);
            let skip = not_finite(v) | (channel >= vec4<u32>(p.c));
            // Exact: a power of two, a floor, and whole numbers of at most 24 bits; farther out only the side matters.
            let at = floor(v * p.inverse_width) - p.first + 1.0;
            let cell = vec4<u32>(clamp(at, vec4<f32>(0.0), vec4<f32>(f32(p.count + 1u))));
            for (var j = 0u; j < 4u; j++) {
                if (!skip[j]) {
                    atomicAdd(&own[cell[j]], 1u);
                }
            }
        }
    }
    workgroupBarrier();
    if (item < p.total) {
        for (var k = lane; k < cells; k += LANES) {
            let n = atomicLoad(&own[k]);
            if (n > 0u) {
                atomicAdd(&counts[p.base + k], n);
            }
        }
    }
}
