// Depthwise convolution: output channel c reads input channel c. Each invocation makes 7 neighbouring pixels of a
// row x 4 channels.
//
// x: [image][in_h][in_w][c4] vec4, y: [image][out_h][out_w][c4] vec4.
// Weights: [tap][c4] vec4s of channels.

struct Params {
    images: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    c4: u32,
    c: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    dilation_h: u32,
    dilation_w: u32,
    activation: u32,
    // How far apart the weights (in vec4s) and the channels of the variants are.
    weights_step: u32,
    channels_step: u32,
    // Invocations and workgroups per image; `images` are of one variant, `all` those of all of them.
    items: u32,
    slots: u32,
    all: u32,
}

// Horizontal step of a dense kernel 3 wide, which then loads each column once; 0 for any other geometry.
override STEP_W: u32 = 0u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

const COLUMNS: u32 = 7u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = image_work(group, groups, lane);
    let c = work.item % p.c4;
    let strips = (p.out_w + COLUMNS - 1u) / COLUMNS;
    let first = work.item / p.c4 % strips * COLUMNS;
    let line_of_image = work.item / p.c4 / strips;
    forget();
    if (work.image < p.all && work.item < p.items) {
        make_strip(work.image, line_of_image, first, c);
    }
    keep_image(work.image, group, groups, lane);
}

fn make_strip(number: u32, line_of_image: u32, first: u32, c: u32) {
    let row = number * p.out_h + line_of_image;
    let variant = variant_of(number);
    let weights_at = variant * p.weights_step;
    let image = number * p.in_h;
    let top = i32(line_of_image * p.stride_h) - i32(p.pad_top);
    let left = i32(first * p.stride_w) - i32(p.pad_left);
    var acc: array<vec4<f32>, COLUMNS>;
    for (var i = 0u; i < COLUMNS; i++) {
        acc[i] = vec4<f32>(0.0);
    }
    let channel = channels[variant * p.channels_step + c];
    for (var a = 0u; a < p.kernel_h; a++) {
        // Negative coordinates wrap to large ones.
        let in_row = u32(top + i32(a * p.dilation_h));
        if (in_row >= p.in_h) {
            continue;
        }
        let line = (image + in_row) * p.in_w;
        if (STEP_W == 0u) {
            for (var b = 0u; b < p.kernel_w; b++) {
                let w = weight(weights_at + (a * p.kernel_w + b) * p.c4 + c, channel.scale, channel.zero);
                let start = left + i32(b * p.dilation_w);
                for (var i = 0u; i < COLUMNS; i++) {
                    let column = u32(start + i32(i * p.stride_w));
                    let inside = column < p.in_w;
                    let value = x[(line + select(0u, column, inside)) * p.c4 + c];
                    acc[i] = acc[i] + select(vec4<f32>(0.0), value, inside) * w;
                }
            }
        } else {
            let v = weights_at + a * 3u * p.c4 + c;
            let w0 = weight(v, channel.scale, channel.zero);
            let w1 = weight(v + p.c4, channel.scale, channel.zero);
            let w2 = weight(v + 2u * p.c4, channel.scale, channel.zero);
            var loaded: array<vec4<f32>, 15>;
            for (var j = 0u; j < (COLUMNS - 1u) * STEP_W + 3u; j++) {
                let column = u32(left + i32(j));
                let inside = column < p.in_w;
                let value = x[(line + select(0u, column, inside)) * p.c4 + c];
                loaded[j] = select(vec4<f32>(0.0), value, inside);
            }
            for (var i = 0u; i < COLUMNS; i++) {
                let j = i * STEP_W;
                acc[i] = acc[i] + loaded[j] * w0 + loaded[j + 1u] * w1 + loaded[j + 2u] * w2;
            }
        }
    }
    let own = channels_of(c);
    for (var i = 0u; i < COLUMNS; i++) {
        if (first + i < p.out_w) {
            let value = select(vec4<f32>(0.0), activate(acc[i] + channel.bias, p.activation), own < vec4<u32>(p.c));
            y[(row * p.out_w + first + i) * p.c4 + c] = value;
            if (MEASURE) {
                let pixel = line_of_image * p.out_w + first + i;
                let base = (number - variant * p.images) * p.out_h * p.out_w;
                look(reference[(base + pixel) * p.c4 + c], value, own * (p.out_h * p.out_w) + pixel);
            }
        }
    }
}
