// The core of a tiled matrix product: DOWN x 8 lanes make 4 P DOWN pixels x 32 Q output channels, each lane 4 P x 4 Q of
// them, from two tiles of workgroup memory that are filled and read by turns. Needs weights and measure.
//
// The kernel says where its pixels' values are. In one step all lanes are at the same place, `row` of the weights' rows
// of input channel vec4s, with `rows_left` rows from there on that belong together: `begin` finds the first, `fetch(i, k)`
// is the vec4 of row `row + k` of this lane's pixel i, `present(i, k)` whether it is there at all, `advance` goes on to
// the next step.

// vec4s of pixels and of output channels per lane, 1 or 2 each.
override P: u32 = 2u;
override Q: u32 = 2u;

// Lanes of a workgroup: 64, or 128 with Q = 2.
override LANES: u32 = 64u;
override DOWN: u32 = LANES / 8u;
// Weight vec4s that a lane brings per step.
override W: u32 = 64u * Q / LANES;
// vec4s of input channels per step.
const STEP: u32 = 2u;
// Rows of a tile, one per input channel of a step; one vec4 more than they hold, so that rows start in other banks.
const ROWS: u32 = 8u;
override ROW_X: u32 = P * DOWN + 1u;
override ROW_W: u32 = 8u * Q + 1u;

// [two by turns][input channel][vec4 of pixels, vec4 of output channels].
var<workgroup> tile_x: array<vec4<f32>, 2u * ROWS * ROW_X>;
var<workgroup> tile_w: array<vec4<f32>, 2u * ROWS * ROW_W>;

// Sums of pixel r for vec4 q of output channels, at 4 P q + r.
var<private> acc: array<vec4<f32>, 16>;

// Of each weight vec4 that this lane brings: its parameters, its place in the first step, and its row of a step.
var<private> scale: array<vec4<f32>, 2>;
var<private> zero: array<vec4<f32>, 2>;
var<private> place: array<u32, 2>;
var<private> own_row: array<u32, 2>;

// The first row of weights of a step, and how many from there on belong together.
var<private> row: u32;
var<private> rows_left: u32;

struct Brought {
    x: array<vec4<f32>, 2>,
    w: array<vec4<u32>, 2>,
}

// Pixel i that a lane brings, counted from the tile's first.
fn brought(i: u32, lane: u32) -> u32 {
    return (i * LANES + lane) / STEP;
}

// Pixel r that a lane makes, counted from the tile's first.
fn made(r: u32, lane: u32) -> u32 {
    return ((r / 4u) * DOWN + lane / 8u) * 4u + r % 4u;
}

// Asks for what this lane brings of a step. What lies behind the last row is replaced by zeros later.
fn bring(lane: u32, chunk_c4: u32) -> Brought {
    var b: Brought;
    for (var i = 0u; i < P; i++) {
        b.x[i] = fetch(i, lane % STEP);
    }
    for (var i = 0u; i < W; i++) {
        b.w[i] = stored(row * chunk_c4 * 4u + place[i]);
    }
    return b;
}

// Puts it into the tiles.
fn put(turn: u32, lane: u32, b: Brought) {
    let zeros = vec4<f32>(0.0);
    var x: array<vec4<f32>, 2>;
    var w: array<vec4<f32>, 2>;
    for (var i = 0u; i < P; i++) {
        x[i] = select(zeros, b.x[i], present(i, lane % STEP));
    }
    for (var i = 0u; i < W; i++) {
        w[i] = dequantized(b.w[i], scale[i], zero[i]);
    }
    // The same for all lanes, and rare.
    if (rows_left < STEP) {
        for (var i = 0u; i < W; i++) {
            w[i] = select(zeros, w[i], own_row[i] < rows_left);
        }
    }
    for (var i = 0u; i < P; i++) {
        let pixel = brought(i, lane);
        let at = (turn * ROWS + lane % STEP * 4u) * ROW_X + pixel / 4u;
        tile_x[at][pixel % 4u] = x[i].x;
        tile_x[at + ROW_X][pixel % 4u] = x[i].y;
        tile_x[at + 2u * ROW_X][pixel % 4u] = x[i].z;
        tile_x[at + 3u * ROW_X][pixel % 4u] = x[i].w;
    }
    for (var i = 0u; i < W; i++) {
        let at = i * LANES + lane;
        tile_w[(turn * ROWS + own_row[i] * 4u + at % 4u) * ROW_W + at / 4u % (8u * Q)] = w[i];
    }
}

// Adds one input channel's products.
fn add_products(x_at: u32, w_at: u32) {
    for (var q = 0u; q < Q; q++) {
        let w = tile_w[w_at + q * 8u];
        for (var r = 0u; r < P; r++) {
            let x = tile_x[x_at + r * DOWN];
            let i = (q * P + r) * 4u;
            acc[i] = acc[i] + x.x * w;
            acc[i + 1u] = acc[i + 1u] + x.y * w;
            acc[i + 2u] = acc[i + 2u] + x.z * w;
            acc[i + 3u] = acc[i + 3u] + x.w * w;
        }
    }
}

// Sums up the products of all `steps` steps for the pixels from `first` and the vec4s of output channels from
// `first_out` on.
fn multiply(first: u32, first_out: u32, chunk_c4: u32, steps: u32, lane: u32) {
    begin(first, lane);
    for (var i = 0u; i < 4u * P * Q; i++) {
        acc[i] = vec4<f32>(0.0);
    }
    for (var i = 0u; i < W; i++) {
        let at = i * LANES + lane;
        let out = min(first_out + at / 4u % (8u * Q), chunk_c4 - 1u);
        let channel = variant * p.channels_step + out;
        scale[i] = channels[channel].scale;
        zero[i] = channels[channel].zero;
        own_row[i] = at / (32u * Q);
        place[i] = variant * p.weights_step + (own_row[i] * chunk_c4 + out) * 4u + at % 4u;
    }
    put(0u, lane, bring(lane, chunk_c4));
    workgroupBarrier();
    var turn = 0u;
    for (var step = 1u; step <= steps; step++) {
        // The next step's values are on their way while this one's are multiplied. Behind the last step the last one's
        // come once more, and nothing reads them.
        if (step < steps) {
            advance();
        }
        let b = bring(lane, chunk_c4);
        let x_at = turn * ROWS * ROW_X + lane / 8u;
        let w_at = turn * ROWS * ROW_W + lane % 8u;
        add_products(x_at, w_at);
        add_products(x_at + ROW_X, w_at + ROW_W);
        add_products(x_at + 2u * ROW_X, w_at + 2u * ROW_W);
        add_products(x_at + 3u * ROW_X, w_at + 3u * ROW_W);
        add_products(x_at + 4u * ROW_X, w_at + 4u * ROW_W);
        add_products(x_at + 5u * ROW_X, w_at + 5u * ROW_W);
        add_products(x_at + 6u * ROW_X, w_at + 6u * ROW_W);
        add_products(x_at + 7u * ROW_X, w_at + 7u * ROW_W);
        turn = turn ^ 1u;
        put(turn, lane, b);
        workgroupBarrier();
    }
}

// Tiles side by side, of output channels.
fn columns() -> u32 {
    return (p.chunk_c4 + 8u * Q - 1u) / (8u * Q);
}

// Stores what the lanes made, and reduces it by runs of 4 places and 8 vec4s of output channels, whatever the tile.
fn finish_tile(first: u32, first_out: u32, lane: u32) {
    for (var g = 0u; g < P; g++) {
        let s = spot(first + made(4u * g, lane));
        for (var q = 0u; q < Q; q++) {
            let out = first_out + q * 8u + lane % 8u;
            let bias = channels[variant * p.channels_step + min(out, p.chunk_c4 - 1u)].bias;
            forget();
            for (var r = 0u; r < 4u; r++) {
                let here = onward(s, r);
                if (is_pixel(here) && out < p.chunk_c4) {
                    make(here, out, acc[(q * P + g) * 4u + r], bias, true);
                }
            }
            if (MEASURE) {
                keep_run(s, first_out / 8u + q, lane);
            }
        }
    }
}

// Keeps what the 8 lanes that share their places saw, as one; all lanes must ask. The tiles of x have had their use.
fn keep_run(s: Spot, column: u32, lane: u32) {
    var mine = folded();
    tile_x[2u * lane] = vec4<f32>(mine.worst, mine.sum_sq, mine.sum_abs, mine.ref_max);
    // Halves of an index are whole numbers that f32 has.
    let half = vec2<f32>(f32(mine.at >> 16u), f32(mine.at & 0xffffu));
    tile_x[2u * lane + 1u] = vec4<f32>(mine.ref_sum_sq, half, f32(mine.non_finite));
    workgroupBarrier();
    if (lane % 8u == 0u && is_pixel(s) && column * 8u < p.chunk_c4) {
        for (var i = 1u; i < 8u; i++) {
            let a = tile_x[2u * (lane + i)];
            let b = tile_x[2u * (lane + i) + 1u];
            let at = u32(b.y) << 16u | u32(b.z);
            mine = merge(mine, Stats(a.x, at, a.y, a.z, a.w, b.x, u32(b.w)));
        }
        keep(slot_of(s, column), mine);
    }
    workgroupBarrier();
}
