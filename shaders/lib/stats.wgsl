// The discrepancy of what a lane looks at, and its reduction. Needs finite, and `partials` to keep it in: two vec4<u32>
// each, (max |q - y|, its channel-major index, sum (q - y)^2, sum |q - y|) and (max |y|, sum y^2, non-finite, 0), floats by
// their bits.

struct Stats {
    worst: f32,
    at: u32,
    sum_sq: f32,
    sum_abs: f32,
    ref_max: f32,
    ref_sum_sq: f32,
    non_finite: u32,
}

// The same by component.
struct Seen {
    worst: vec4<f32>,
    at: vec4<u32>,
    sum_sq: vec4<f32>,
    sum_abs: vec4<f32>,
    ref_max: vec4<f32>,
    ref_sum_sq: vec4<f32>,
    non_finite: vec4<u32>,
}

var<private> seen: Seen;

// Of nothing; an index behind all others.
fn nothing() -> Stats {
    return Stats(-1.0, 0xffffffffu, 0.0, 0.0, 0.0, 0.0, 0u);
}

fn forget() {
    let zero = vec4<f32>(0.0);
    seen = Seen(vec4<f32>(-1.0), vec4<u32>(0xffffffffu), zero, zero, zero, zero, vec4<u32>(0u));
}

// Four values of the reference and of the variant, at these channel-major indices. Behind the last channel both are zero.
fn look(y: vec4<f32>, q: vec4<f32>, index: vec4<u32>) {
    let bad = not_finite(y) | not_finite(q);
    let zero = vec4<f32>(0.0);
    let diff = select(abs(q - y), zero, bad);
    let size = select(abs(y), zero, bad);
    let take = !bad & ((diff > seen.worst) | ((diff == seen.worst) & (index < seen.at)));
    seen.worst = select(seen.worst, diff, take);
    seen.at = select(seen.at, index, take);
    seen.sum_sq = seen.sum_sq + diff * diff;
    seen.sum_abs = seen.sum_abs + diff;
    seen.ref_max = max(seen.ref_max, size);
    seen.ref_sum_sq = seen.ref_sum_sq + size * size;
    seen.non_finite = seen.non_finite + select(vec4<u32>(0u), vec4<u32>(1u), bad);
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// All that was seen.
fn folded() -> Stats {
    var s = Stats(
        seen.worst.x,
        seen.at.x,
        total(seen.sum_sq),
        total(seen.sum_abs),
        max(max(seen.ref_max.x, seen.ref_max.y), max(seen.ref_max.z, seen.ref_max.w)),
        total(seen.ref_sum_sq),
        seen.non_finite.x + seen.non_finite.y + seen.non_finite.z + seen.non_finite.w,
    );
    for (var j = 1u; j < 4u; j++) {
        if (seen.worst[j] > s.worst || (seen.worst[j] == s.worst && seen.at[j] < s.at)) {
            s.worst = seen.worst[j];
            s.at = seen.at[j];
        }
    }
    return s;
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

fn keep(slot: u32, s: Stats) {
    partials[slot * 2u] = vec4<u32>(bitcast<u32>(s.worst), s.at, bitcast<u32>(s.sum_sq), bitcast<u32>(s.sum_abs));
    partials[slot * 2u + 1u] = vec4<u32>(bitcast<u32>(s.ref_max), bitcast<u32>(s.ref_sum_sq), s.non_finite, 0u);
}
