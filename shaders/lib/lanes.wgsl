// The core of a matrix product for processors that run 8 lanes as one vector, where loads are dear and broadcasts are
// cheap: a lane makes 8 pixels x 8 output channels, and each weight is loaded by one lane for all. Needs weights.

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
    place = own * 4u + lane % 4u;
    scale = channels[own].scale;
    zero = channels[own].zero;
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
