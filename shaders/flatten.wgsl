// A map as a channel-major vector: one invocation per 4 values of the vector.
//
// x: [image][pixels][c4] vec4, y: [image][ceil(c * pixels / 4)] vec4.

struct Params {
    images: u32,
    pixels: u32,
    c4: u32,
    // Values of the vector, c * pixels, and vec4s that hold them.
    length: u32,
    length_c4: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let image = item / p.length_c4;
    if (image >= p.images) {
        return;
    }
    var v = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        let i = item % p.length_c4 * 4u + j;
        if (i < p.length) {
            v[j] = x[(image * p.pixels + i % p.pixels) * p.c4 * 4u + i / p.pixels];
        }
    }
    y[item] = activate(v, p.activation);
}
