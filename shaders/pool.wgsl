// Largest value or mean of each window; one invocation per output pixel x 4 channels. Padding never wins a maximum.
//
// x: [image][in_h][in_w][c4] vec4, y: [image][out_h][out_w][c4] vec4.

struct Params {
    images: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    c4: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    // 0: maximum, 1: mean over real pixels, 2: mean over the kernel's size.
    mode: u32,
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
    let c = item % p.c4;
    let pixel = item / p.c4;
    let row = pixel / p.out_w;
    let image = row / p.out_h;
    if (image >= p.images) {
        return;
    }
    let top = i32(row % p.out_h * p.stride_h) - i32(p.pad_top);
    let left = i32(pixel % p.out_w * p.stride_w) - i32(p.pad_left);
    var result = vec4<f32>(0.0);
    var real = 0u;
    for (var a = 0u; a < p.kernel_h; a++) {
        for (var b = 0u; b < p.kernel_w; b++) {
            // Negative coordinates wrap to large ones.
            let in_row = u32(top + i32(a));
            let column = u32(left + i32(b));
            if (in_row < p.in_h && column < p.in_w) {
                let value = x[((image * p.in_h + in_row) * p.in_w + column) * p.c4 + c];
                if (p.mode != 0u) {
                    result = result + value;
                } else {
                    let take = (is_nan(value) | (value > result)) & !is_nan(result);
                    result = select(result, value, take | vec4<bool>(real == 0u));
                }
                real += 1u;
            }
        }
    }
    if (p.mode == 1u) {
        result = result / f32(real);
    } else if (p.mode == 2u) {
        result = result / f32(p.kernel_h * p.kernel_w);
    }
    y[item] = activate(result, p.activation);
}
