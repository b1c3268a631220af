// Discrepancy statistics of chunks of a feature map: each workgroup reduces one chunk of one image in a fixed order.
//
// a, b: reference and variant, [image][pixels][c4] vec4. partials: two vec4<u32> per chunk,
// (max |b - a|, its channel-major index, sum (b - a)^2, sum |b - a|) and (max |a|, sum a^2, non-finite, 0), floats by
// their bits.

struct Params {
    pixels: u32,
    c4: u32,
    c: u32,
    chunks: u32,
    // First of this tap's partials.
    base: u32,
    // Chunks of all images.
    total: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<u32>>;

const LANES: u32 = 64u;
// vec4s that one lane reduces; bounds the length of every f32 sum.
const STEPS: u32 = 32u;

struct Stats {
    worst: f32,
    at: u32,
    sum_sq: f32,
    sum_abs: f32,
    ref_max: f32,
    ref_sum_sq: f32,
    non_finite: u32,
}

var<workgroup> shared_stats: array<Stats, LANES>;

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn merge(l: Stats, r: Stats) -> Stats {
    var s: Stats;
    let take = r.worst > l.worst || (r.worst == l.worst && r.at < l.at);
    s.worst = select(l.worst, r.worst, take);
    s.at = select(l.at, r.at, take);
    s.sum_sq = l.sum_sq + r.sum_sq;
    s.sum_abs = l.sum_abs + r.sum_abs;
    s.ref_max = max(l.ref_max, r.ref_max);
    s.ref_sum_sq = l.ref_sum_sq + r.ref_sum_sq;
    s.non_finite = l.non_finite + r.non_finite;
    return s;
}

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

    var worst = vec4<f32>(-1.0);
    var at = vec4<u32>(0xffffffffu);
    var sum_sq = vec4<f32>(0.0);
    var sum_abs = vec4<f32>(0.0);
    var ref_max = vec4<f32>(0.0);
    var ref_sum_sq = vec4<f32>(0.0);
    var non_finite = vec4<u32>(0u);
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
        let y = a[image * size + i];
        let q = b[image * size + i];
        let bad = not_finite(y) | not_finite(q);
        let lanes = channels_of(c);
        let skip = bad | (lanes >= vec4<u32>(p.c));
        let zero = vec4<f32>(0.0);
        let diff = select(abs(q - y), zero, skip);
        let size_y = select(abs(y), zero, skip);
        let index = lanes * p.pixels + pixel;
        let take = !skip & ((diff > worst) | ((diff == worst) & (index < at)));
        worst = select(worst, diff, take);
        at = select(at, index, take);
        sum_sq = sum_sq + diff * diff;
        sum_abs = sum_abs + diff;
        ref_max = max(ref_max, size_y);
        ref_sum_sq = ref_sum_sq + size_y * size_y;
        non_finite = non_finite + select(vec4<u32>(0u), vec4<u32>(1u), bad);
        c += c_step;
        pixel += pixel_step;
        if (c >= p.c4) {
            c -= p.c4;
            pixel += 1u;
        }
    }

    var mine = Stats(
        worst.x,
        at.x,
        total(sum_sq),
        total(sum_abs),
        max(max(ref_max.x, ref_max.y), max(ref_max.z, ref_max.w)),
        total(ref_sum_sq),
        non_finite.x + non_finite.y + non_finite.z + non_finite.w,
    );
    for (var j = 1u; j < 4u; j++) {
        if (worst[j] > mine.worst || (worst[j] == mine.worst && at[j] < mine.at)) {
            mine.worst = worst[j];
            mine.at = at[j];
        }
    }
    shared_stats[lane] = mine;
    for (var half = LANES / 2u; half > 0u; half = half / 2u) {
        workgroupBarrier();
        if (lane < half) {
            shared_stats[lane] = merge(shared_stats[lane], shared_stats[lane + half]);
        }
    }
    if (lane == 0u) {
        let s = shared_stats[0];
        let slot = (p.base + item) * 2u;
        partials[slot] = vec4<u32>(bitcast<u32>(s.worst), s.at, bitcast<u32>(s.sum_sq), bitcast<u32>(s.sum_abs));
        partials[slot + 1u] = vec4<u32>(bitcast<u32>(s.ref_max), bitcast<u32>(s.ref_sum_sq), s.non_finite, 0u);
    }
}
