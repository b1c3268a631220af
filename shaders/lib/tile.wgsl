// The core of a tiled matrix product: DOWN x 8 lanes make 4 P DOWN pixels x 32 Q output channels, each lane 4 P x 4 Q of
// them, from two tiles of workgroup memory that are filled and read by turns. Needs weights, measure and runs.
//
// The kernel says where its pixels' values are. In one step all lanes are at the same place, `row` of the weights' rows
// of input channel vec4s, with `rows_left` rows from there on that belong together: `begin` finds those of a step, `fetch(i, k)`
// is the vec4 of row `row + k` of this lane's pixel i, `present(i, k)` whether it is there at all, `advance` goes on to
// the next step.

// vec4s of pixels and of output channels per lane, 1 or 2 each.
override P: u32 = 2u;
override Q: u32 = 2u;

// Lanes of a workgroup: 64, or 128 with Q = 2.
override LANES: u32 = 64u;

// Whether a workgroup adds up the products of some steps alone. Such sums are stored as they are,
// [part][variant][pixel][chunk_c4], and sum_parts makes outputs of them.
override SPLIT: bool = false;

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

// Sums up the products of the steps from `start` to before `end` for the pixels from `first` and the vec4s of output
// channels from `first_out` on.
fn multiply(first: u32, first_out: u32, chunk_c4: u32, start: u32, end: u32, lane: u32) {
    begin(first, start, lane);
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
    for (var step = start + 1u; step <= end; step++) {
        // The next step's values are on their way while this one's are multiplied. Behind the last step the last one's
        // come once more, and nothing reads them.
        if (step < end) {
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

// All that a workgroup does; the layer takes `steps` steps.
fn make_tile(item: u32, steps: u32, lane: u32) {
    let across = columns();
    let rows = (p.places + 4u * P * DOWN - 1u) / (4u * P * DOWN);
    let first = item / across % rows * 4u * P * DOWN;
    let first_out = item % across * 8u * Q;
    variant = item / across / rows;
    if (!SPLIT) {
        if (variant < p.variants) {
            multiply(first, first_out, p.chunk_c4, 0u, steps, lane);
            finish_tile(first, first_out, lane);
        }
        return;
    }
    let part = variant / p.variants;
    variant = variant % p.variants;
    if (part < p.parts) {
        multiply(first, first_out, p.chunk_c4, part * steps / p.parts, (part + 1u) * steps / p.parts, lane);
        store_sums(part, first, first_out, lane);
    }
}

// Stores the sums of a part.
fn store_sums(part: u32, first: u32, first_out: u32, lane: u32) {
    for (var g = 0u; g < P; g++) {
        let s = spot(first + made(4u * g, lane));
        for (var q = 0u; q < Q; q++) {
            let out = first_out + q * 8u + lane % 8u;
            for (var r = 0u; r < 4u; r++) {
                let here = onward(s, r);
                if (is_pixel(here) && out < p.chunk_c4) {
                    y[sum_at(part, here, out)] = acc[(q * P + g) * 4u + r];
                }
            }
        }
    }
}

// Stores what the lanes made, and reduces it by runs of 4 places and 8 vec4s of output channels, whatever the tile.
fn finish_tile(first: u32, first_out: u32, lane: u32) {
    for (var g = 0u; g < P; g++) {
        let s = spot(first + made(4u * g, lane));
        for (var q = 0u; q < Q; q++) {
            let out = first_out + q * 8u + lane % 8u;
            let bias = bias_of(variant * p.channels_step + min(out, p.chunk_c4 - 1u));
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
