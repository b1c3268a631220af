// Multiply-adds in 8 independent chains of vec4s per invocation; what a kernel that only computes reaches.

struct Params {
    count: u32,
    rounds: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    if (item >= p.count) {
        return;
    }
    let m = vec4<f32>(p.factor);
    let b = vec4<f32>(f32(lane));
    var a0 = b;
    var a1 = b + 1.0;
    var a2 = b + 2.0;
    var a3 = b + 3.0;
    var a4 = b + 4.0;
    var a5 = b + 5.0;
    var a6 = b + 6.0;
    var a7 = b + 7.0;
    for (var i = 0u; i < p.rounds; i++) {
        a0 = a0 * m + b;
        a1 = a1 * m + b;
        a2 = a2 * m + b;
        a3 = a3 * m + b;
        a4 = a4 * m + b;
        a5 = a5 * m + b;
        a6 = a6 * m + b;
        a7 = a7 * m + b;
    }
    y[item] = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
}
