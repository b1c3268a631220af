// The core of a matrix product for processors that run 8 lanes as one vector, where loads are dear and broadcasts are
// cheap: a lane makes 8 places one after the other x Q vec4s of output channels, and each weight is loaded by one lane for
// all. Needs weights and measure.
//
// Arrays are indexed by constants alone, after unrolling: such processors would store each lane's part of others by itself.

const LANES: u32 = 8u;
const ROWS: u32 = 8u;

// vec4s of output channels per lane. Twice as many are a third faster, and take a driver three times as long to compile.
const Q: u32 = 4u;

// Sums of row r for vec4 q of output channels, at 8 q + r.
var<private> acc: array<vec4<f32>, 32>;

// For each two vec4s of output channels, the vec4 of weights that this lane loads in a row of four input channels: its place
// in row 0 and its parameters.
var<private> place: array<u32, 2>;
var<private> scale: array<vec4<f32>, 2>;
var<private> zero: array<vec4<f32>, 2>;

fn start(out: u32, chunk_c4: u32, lane: u32) {
    find(0u, out, chunk_c4, lane);
    find(1u, out, chunk_c4, lane);
    acc = array<vec4<f32>, 32>();
}

fn find(i: u32, out: u32, chunk_c4: u32, lane: u32) {
    let own = min(out + 2u * i + lane / 4u, chunk_c4 - 1u);
    place[i] = variant * p.weights_step + own * 4u + lane % 4u;
    scale[i] = channels[variant * p.channels_step + own].scale;
    zero[i] = channels[variant * p.channels_step + own].zero;
}

// Adds the products of one row of weights; `x` are the four input channels of each pixel.
fn add_row(row: u32, chunk_c4: u32, x: array<vec4<f32>, ROWS>) {
    let first = row * chunk_c4 * 4u;
    add_two(first, 0u, x);
    add_two(first, 1u, x);
}

// Those of two vec4s of output channels.
fn add_two(first: u32, i: u32, x: array<vec4<f32>, ROWS>) {
    let own = weight(first + place[i], scale[i], zero[i]);
    let w0 = subgroupBroadcast(own, 0u);
    let w1 = subgroupBroadcast(own, 1u);
    let w2 = subgroupBroadcast(own, 2u);
    let w3 = subgroupBroadcast(own, 3u);
    add_column(16u * i, x, w0, w1, w2, w3);
    let w4 = subgroupBroadcast(own, 4u);
    let w5 = subgroupBroadcast(own, 5u);
    let w6 = subgroupBroadcast(own, 6u);
    let w7 = subgroupBroadcast(own, 7u);
    add_column(16u * i + 8u, x, w4, w5, w6, w7);
}

// Those of one.
fn add_column(at: u32, x: array<vec4<f32>, ROWS>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) {
    add_one(at, x[0], w0, w1, w2, w3);
    add_one(at + 1u, x[1], w0, w1, w2, w3);
    add_one(at + 2u, x[2], w0, w1, w2, w3);
    add_one(at + 3u, x[3], w0, w1, w2, w3);
    add_one(at + 4u, x[4], w0, w1, w2, w3);
    add_one(at + 5u, x[5], w0, w1, w2, w3);
    add_one(at + 6u, x[6], w0, w1, w2, w3);
    add_one(at + 7u, x[7], w0, w1, w2, w3);
}

fn add_one(at: u32, x: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) {
    acc[at] = acc[at] + x.x * w0 + x.y * w1 + x.z * w2 + x.w * w3;
}

// The work of a vector: its variant, its first place and its first vec4 of output channels.
struct Work {
    variant: u32,
    first: u32,
    out: u32,
}

fn work_of(item: u32) -> Work {
    let columns = (p.chunk_c4 + Q - 1u) / Q;
    let blocks = (p.places + LANES * ROWS - 1u) / (LANES * ROWS);
    return Work(item / columns / blocks, item / columns % blocks * (LANES * ROWS), item % columns * Q);
}

// Stores what a lane made from the place `first` on, and keeps what it saw.
fn finish_vector(first: Spot, out: u32) {
    forget();
    finish_column(first, out, 0u);
    finish_column(first, out, 1u);
    finish_column(first, out, 2u);
    finish_column(first, out, 3u);
    if (MEASURE && is_pixel(first)) {
        keep(slot_of(first, out / Q), folded());
    }
}

// Vec4 q of all places.
fn finish_column(first: Spot, out: u32, q: u32) {
    // Before anything is stored, that it need not be loaded once more after it.
    let bias = bias_of(variant * p.channels_step + min(out + q, p.chunk_c4 - 1u));
    make_row(first, 0u, out + q, acc[8u * q + 0u], bias);
    make_row(first, 1u, out + q, acc[8u * q + 1u], bias);
    make_row(first, 2u, out + q, acc[8u * q + 2u], bias);
    make_row(first, 3u, out + q, acc[8u * q + 3u], bias);
    make_row(first, 4u, out + q, acc[8u * q + 4u], bias);
    make_row(first, 5u, out + q, acc[8u * q + 5u], bias);
    make_row(first, 6u, out + q, acc[8u * q + 6u], bias);
    make_row(first, 7u, out + q, acc[8u * q + 7u], bias);
}
