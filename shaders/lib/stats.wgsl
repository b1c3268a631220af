// The discrepancy of what a lane looks at, and its reduction. Needs `partials` to keep it in: two vec4<u32>
// each, (max |q - y|, its channel-major index, sum (q - y)^2, sum |q - y|) and (max |y|, sum y^2, non-finite, 0), floats by
// their bits.

// Whether each of the four indices of a look is larger than those before it, so that the first of equals is the right one.
override ORDERED: bool = true;

struct Stats {
    worst: f32,
    at: u32,
    sum_sq: f32,
    sum_abs: f32,
    ref_max: f32,
    ref_sum_sq: f32,
    non_finite: u32,
}

// The same by component; sizes by their bits, which are in the order of the numbers.
struct Seen {
    worst: vec4<i32>,
    at: vec4<u32>,
    sum_sq: vec4<f32>,
    sum_abs: vec4<f32>,
    ref_max: vec4<i32>,
    ref_sum_sq: vec4<f32>,
    non_finite: vec4<u32>,
}

var<private> seen: Seen;

// Of nothing; an index behind all others.
fn nothing() -> Stats {
    return Stats(-1.0, 0xffffffffu, 0.0, 0.0, 0.0, 0.0, 0u);
}

// The size of no difference, below all others.
fn none() -> vec4<i32> {
    return bitcast<vec4<i32>>(vec4<f32>(-1.0));
}

fn forget() {
    let zero = vec4<f32>(0.0);
    seen = Seen(none(), vec4<u32>(0xffffffffu), zero, zero, vec4<i32>(0), zero, vec4<u32>(0u));
}

// Four values of the reference and of the variant, at these channel-major indices; nothing where they are not `there`. A
// difference that is not finite counts as such, whichever of the two it is from. Behind the last channel both are zero.
fn look(y: vec4<f32>, q: vec4<f32>, index: vec4<u32>, there: bool) {
    let positive = vec4<i32>(0x7fffffff);
    let size = bitcast<vec4<i32>>(y) & positive;
    let diff = bitcast<vec4<i32>>(q - y) & positive;
    let bad = diff >= vec4<i32>(0x7f800000);
    let no = bad | vec4<bool>(!there);
    let own = select(diff, none(), no);
    let by = bitcast<vec4<f32>>(max(own, vec4<i32>(0)));
    let ref_size = select(size, vec4<i32>(0), no);
    let ref_value = bitcast<vec4<f32>>(ref_size);
    var take = own > seen.worst;
    if (!ORDERED) {
        take = take | ((own == seen.worst) & (index < seen.at));
    }
    seen.at = select(seen.at, index, take);
    seen.worst = max(seen.worst, own);
    seen.sum_sq = seen.sum_sq + by * by;
    seen.sum_abs = seen.sum_abs + by;
    seen.ref_max = max(seen.ref_max, ref_size);
    seen.ref_sum_sq = seen.ref_sum_sq + ref_value * ref_value;
    seen.non_finite = seen.non_finite + select(vec4<u32>(0u), vec4<u32>(1u), bad & vec4<bool>(there));
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// All that was seen.
fn folded() -> Stats {
    let worst = bitcast<vec4<f32>>(seen.worst);
    let ref_max = max(max(seen.ref_max.x, seen.ref_max.y), max(seen.ref_max.z, seen.ref_max.w));
    var s = Stats(
        worst.x,
        seen.at.x,
        total(seen.sum_sq),
        total(seen.sum_abs),
        bitcast<f32>(ref_max),
        total(seen.ref_sum_sq),
        seen.non_finite.x + seen.non_finite.y + seen.non_finite.z + seen.non_finite.w,
    );
    for (var j = 1u; j < 4u; j++) {
        if (worst[j] > s.worst || (worst[j] == s.worst && seen.at[j] < s.at)) {
            s.worst = worst[j];
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
