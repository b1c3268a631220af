// The core of a matrix product for processors that run 8 lanes as one vector, where loads are dear and broadcasts are
// cheap: a lane makes 8 pixels x 8 output channels, and each weight is loaded by one lane for all. Needs weights
// and measure.

const LANES: u32 = 8u;
const ROWS: u32 = 8u;

// Sums of 8 pixels for the first and the second vec4 of output channels.
var<private> low: array<vec4<f32>, ROWS>;
var<private> high: array<vec4<f32>, ROWS>;

// The vec4 of weights that this lane loads in a row of four input channels: its place in row 0 and its parameters.
var<private> place: u32;
var<private> scale: vec4<f32>;
var<private> zero: vec4<f32>;

fn start(out: u32, chunk_c4: u32, lane: u32) {
    let own = min(out + lane / 4u, chunk_c4 - 1u);
    place = variant * p.weights_step + own * 4u + lane % 4u;
    scale = channels[variant * p.channels_step + own].scale;
    zero = channels[variant * p.channels_step + own].zero;
    for (var r = 0u; r < ROWS; r++) {
        low[r] = vec4<f32>(0.0);
        high[r] = vec4<f32>(0.0);
    }
}

// Adds the products of one row of weights; `x` are the four input channels of each pixel.
fn add_row(row: u32, chunk_c4: u32, x: array<vec4<f32>, ROWS>) {
    let own = weight(row * chunk_c4 * 4u + place, scale, zero);
    let w0 = subgroupBroadcast(own, 0u);
    let w1 = subgroupBroadcast(own, 1u);
    let w2 = subgroupBroadcast(own, 2u);
    let w3 = subgroupBroadcast(own, 3u);
    for (var r = 0u; r < ROWS; r++) {
        low[r] = low[r] + x[r].x * w0 + x[r].y * w1 + x[r].z * w2 + x[r].w * w3;
    }
    let w4 = subgroupBroadcast(own, 4u);
    let w5 = subgroupBroadcast(own, 5u);
    let w6 = subgroupBroadcast(own, 6u);
    let w7 = subgroupBroadcast(own, 7u);
    for (var r = 0u; r < ROWS; r++) {
        high[r] = high[r] + x[r].x * w4 + x[r].y * w5 + x[r].z * w6 + x[r].w * w7;
    }
}

// The work of a vector: its variant, its first place and its first vec4 of output channels.
struct Work {
    variant: u32,
    first: u32,
    out: u32,
}

fn work_of(item: u32) -> Work {
    let columns = (p.chunk_c4 + 1u) / 2u;
    let blocks = (p.places + LANES * ROWS - 1u) / (LANES * ROWS);
    return Work(item / columns / blocks, item / columns % blocks * (LANES * ROWS), item % columns * 2u);
}

// Stores what the lanes made from the place `first` on, and reduces it by runs of one or more rows of 8 places, or of 1.
fn finish_vector(first: Spot, out: u32, lane: u32) {
    var s = first;
    forget();
    for (var r = 0u; r < ROWS; r++) {
        if (is_pixel(s)) {
            make(s, out, low[r], channels[variant * p.channels_step + out].bias);
            if (out + 1u < p.chunk_c4) {
                make(s, out + 1u, high[r], channels[variant * p.channels_step + out + 1u].bias);
            }
        }
        if (MEASURE) {
            if (p.run == 1u) {
                if (is_pixel(s)) {
                    keep(slot_of(s, out / 2u), folded());
                }
                forget();
            } else if ((r + 1u) * LANES % p.run == 0u) {
                let all = across(folded());
                if (lane == 0u && is_pixel(s)) {
                    keep(slot_of(s, out / 2u), all);
                }
                forget();
            }
        }
        s = onward(s, LANES);
    }
}

// What the lanes saw, as one.
fn across(mine: Stats) -> Stats {
    var s: Stats;
    s.worst = subgroupMax(mine.worst);
    s.at = subgroupMin(select(0xffffffffu, mine.at, mine.worst == s.worst));
    s.sum_sq = subgroupAdd(mine.sum_sq);
    s.sum_abs = subgroupAdd(mine.sum_abs);
    s.ref_max = subgroupMax(mine.ref_max);
    s.ref_sum_sq = subgroupAdd(mine.ref_sum_sq);
    s.non_finite = subgroupAdd(mine.non_finite);
    return s;
}
