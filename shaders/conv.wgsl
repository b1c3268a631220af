// Convolution of any kernel size, stride, padding, dilation and grouping as an implicit matrix product, blocked in
// registers: each invocation makes 8 output pixels x 4 output channels.
//
// x: [image][in_h][in_w][in_c4] vec4, y: [image][out_h][out_w][out_c4] vec4.
// Weights: blocks [tap][span_c4][chunk_c4] of 4 input x 4 output channels, output channel fastest. A block's input
// channels count from the first one that its four output channels read; without groups that is 0.

struct Params {
    // Of one variant.
    pixels: u32,
    in_h: u32,
    in_w: u32,
    in_c4: u32,
    out_h: u32,
    out_w: u32,
    // vec4s per pixel of y, channels of y, first vec4 and number of vec4s that this chunk of weights makes.
    out_c4: u32,
    out_c: u32,
    chunk_first: u32,
    chunk_c4: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    dilation_h: u32,
    dilation_w: u32,
    // vec4s of input channels per block of four output channels.
    span_c4: u32,
    in_per_group: u32,
    out_per_group: u32,
    activation: u32,
    // Variants, and how far apart their weights (in vec4s) and channels are.
    variants: u32,
    weights_step: u32,
    channels_step: u32,
    // Places of one variant; pixels, places and places per run of an image.
    places: u32,
    image_pixels: u32,
    padded: u32,
    run: u32,
    // Partial results of an image and of a run, and the first of them that this chunk of weights makes.
    slots: u32,
    columns: u32,
    column_first: u32,
    // Bits of one stored weight.
    field: u32,
}

// True when the output channels of one vec4 may read different input channels.
override GROUPED: bool = false;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

const ROWS: u32 = 8u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = invocation_of(group, groups, lane);
    let out = item % p.chunk_c4;
    let blocks = (p.places + ROWS - 1u) / ROWS;
    variant = item / p.chunk_c4 / blocks;
    if (variant >= p.variants) {
        return;
    }
    let first = spot(item / p.chunk_c4 % blocks * ROWS);
    let low = channels_of(p.chunk_first + out) / p.out_per_group * p.in_per_group;
    let high = low + p.in_per_group;
    let start = select(0u, low.x / 4u, GROUPED);

    // Places without a pixel repeat the nearest one and are not stored.
    var top: array<i32, ROWS>;
    var left: array<i32, ROWS>;
    var image: array<u32, ROWS>;
    var acc: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let pixel = variant * p.pixels + pixel_of(onward(first, r));
        let row = pixel / p.out_w;
        left[r] = i32(pixel % p.out_w * p.stride_w) - i32(p.pad_left);
        top[r] = i32(row % p.out_h * p.stride_h) - i32(p.pad_top);
        image[r] = row / p.out_h * p.in_h * p.in_w;
        acc[r] = vec4<f32>(0.0);
    }
    let channel = channels[variant * p.channels_step + out];
    for (var tap = 0u; tap < p.kernel_h * p.kernel_w; tap++) {
        let dy = i32(tap / p.kernel_w * p.dilation_h);
        let dx = i32(tap % p.kernel_w * p.dilation_w);
        var at: array<u32, ROWS>;
        var inside: array<bool, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            // Negative coordinates wrap to large ones.
            let row = u32(top[r] + dy);
            let column = u32(left[r] + dx);
            inside[r] = row < p.in_h && column < p.in_w;
            at[r] = select(0u, (image[r] + row * p.in_w + column) * p.in_c4, inside[r]);
        }
        for (var k = 0u; k < p.span_c4; k++) {
            let v = variant * p.weights_step + ((tap * p.span_c4 + k) * p.chunk_c4 + out) * 4u;
            let w0 = weight(v, channel.scale, channel.zero);
            let w1 = weight(v + 1u, channel.scale, channel.zero);
            let w2 = weight(v + 2u, channel.scale, channel.zero);
            let w3 = weight(v + 3u, channel.scale, channel.zero);
            if (GROUPED) {
                // A lane reads only its own group: a NaN elsewhere must not reach it through a zero weight.
                let c = vec4<u32>((start + k) * 4u);
                let source = min(start + k, p.in_c4 - 1u);
                let zero = vec4<f32>(0.0);
                for (var r = 0u; r < ROWS; r++) {
                    let value = select(zero, x[at[r] + source], inside[r]);
                    var sum = select(zero, value.x * w0, (c >= low) & (c < high));
                    sum = sum + select(zero, value.y * w1, (c + 1u >= low) & (c + 1u < high));
                    sum = sum + select(zero, value.z * w2, (c + 2u >= low) & (c + 2u < high));
                    sum = sum + select(zero, value.w * w3, (c + 3u >= low) & (c + 3u < high));
                    acc[r] = acc[r] + sum;
                }
            } else {
                for (var r = 0u; r < ROWS; r++) {
                    let value = select(vec4<f32>(0.0), x[at[r] + k], inside[r]);
                    acc[r] = acc[r] + value.x * w0 + value.y * w1 + value.z * w2 + value.w * w3;
                }
            }
        }
    }
    finish_rows(first, out, acc, channel.bias);
}
