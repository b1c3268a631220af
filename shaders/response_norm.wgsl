// x / (bias + scale * s)^beta, where s is the sum of the squares of the channels around that of x; one invocation per
// value, those behind the last channel are zeros.

struct Params {
    // Pixels of all images.
    pixels: u32,
    // Channels, and values per pixel.
    channels: u32,
    stride: u32,
    // Channels of the sum before and after.
    before: u32,
    after: u32,
    scale: f32,
    beta: f32,
    bias: f32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let pixel = item / p.stride;
    let c = item % p.stride;
    if (pixel >= p.pixels) {
        return;
    }
    var v = 0.0;
    if (c < p.channels) {
        let first = c - min(c, p.before);
        let last = min(c + p.after, p.channels - 1u);
        var squares = 0.0;
        for (var k = first; k <= last; k++) {
            let neighbour = x[pixel * p.stride + k];
            squares += neighbour * neighbour;
        }
        v = x[item] * pow(p.bias + p.scale * squares, -p.beta);
        v = activate(vec4<f32>(v), p.activation).x;
    }
    y[item] = v;
}
