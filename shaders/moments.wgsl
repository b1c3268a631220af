// Ranges and sums of each channel: every invocation reduces four channels of one run of pixels, in order.
//
// a, b: full precision and values, [image][pixels][c4] vec4. partials: six vec4<u32> per run and c4, for four channels
// min, max, sum, sum of squares, sum of (b - a)^2 by their bits, and the number of non-finite elements.

struct Params {
    // Of all images.
    pixels: u32,
    c4: u32,
    // First of this map's partials.
    base: u32,
    // Runs times c4.
    total: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<u32>>;

// A run is BLOCKS * STEPS pixels; two levels bound the length of every f32 sum.
const BLOCKS: u32 = 32u;
const STEPS: u32 = 32u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    if (item >= p.total) {
        return;
    }
    let c = item % p.c4;
    let first = item / p.c4 * (BLOCKS * STEPS);
    let end = min(first + BLOCKS * STEPS, p.pixels);
    let zero = vec4<f32>(0.0);

    // Beyond every finite value; a channel without finite elements is told by its count.
    var low = vec4<f32>(3.4028234e38);
    var high = vec4<f32>(-3.4028234e38);
    var sum = zero;
    var sum_sq = zero;
    var sum_sq_diff = zero;
    var non_finite = vec4<u32>(0u);
    var pixel = first;
    while (pixel < end) {
        let stop = min(pixel + STEPS, end);
        var block_sum = zero;
        var block_sq = zero;
        var block_diff = zero;
        for (; pixel < stop; pixel++) {
            let y = a[pixel * p.c4 + c];
            let x = b[pixel * p.c4 + c];
            let bad = not_finite(x) | not_finite(y);
            let value = select(x, zero, bad);
            let diff = select(x - y, zero, bad);
            low = select(min(low, x), low, bad);
            high = select(max(high, x), high, bad);
            block_sum = block_sum + value;
            block_sq = block_sq + value * value;
            block_diff = block_diff + diff * diff;
            non_finite = non_finite + select(vec4<u32>(0u), vec4<u32>(1u), bad);
        }
        sum = sum + block_sum;
        sum_sq = sum_sq + block_sq;
        sum_sq_diff = sum_sq_diff + block_diff;
    }
    let slot = (p.base + item) * 6u;
    partials[slot] = bitcast<vec4<u32>>(low);
    partials[slot + 1u] = bitcast<vec4<u32>>(high);
    partials[slot + 2u] = bitcast<vec4<u32>>(sum);
    partials[slot + 3u] = bitcast<vec4<u32>>(sum_sq);
    partials[slot + 4u] = bitcast<vec4<u32>>(sum_sq_diff);
    partials[slot + 5u] = non_finite;
}
