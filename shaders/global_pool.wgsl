// Mean over all pixels of each channel; one invocation per image x 4 channels. Rows are summed one by one, so that
// a channel's sum is no chain over all pixels.
//
// x: [image][h][w][c4] vec4, y: [image][c4] vec4.

struct Params {
    images: u32,
    h: u32,
    w: u32,
    c4: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    if (item >= p.images * p.c4) {
        return;
    }
    let first = item / p.c4 * p.h * p.w * p.c4 + item % p.c4;
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < p.h; i++) {
        var line = vec4<f32>(0.0);
        for (var j = 0u; j < p.w; j++) {
            line = line + x[first + (i * p.w + j) * p.c4];
        }
        sum = sum + line;
    }
    y[item] = activate(sum / f32(p.h * p.w), p.activation);
}
