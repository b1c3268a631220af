// Kernels whose lanes each make pixels of one image: where they are measured, a workgroup works on one image alone, and what
// its lanes saw is kept as one. Needs grid and gathered, and the parameters `p`.

override MEASURE: bool = false;

// Whether there are several variants.
override SEVERAL: bool = false;

@group(0) @binding(5) var<storage, read> reference: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> partials: array<vec4<u32>>;

// The number of an image, of all variants, and that of a lane's item in it.
struct ImageWork {
    image: u32,
    item: u32,
}

// The variant of an image.
fn variant_of(image: u32) -> u32 {
    if (SEVERAL) {
        return image / p.images;
    }
    return 0u;
}

fn image_work(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> ImageWork {
    if (MEASURE) {
        let number = workgroup_of(group, groups);
        return ImageWork(number / p.slots, number % p.slots * 64u + lane);
    }
    let item = invocation_of(group, groups, lane);
    return ImageWork(item / p.items, item % p.items);
}

// All lanes must ask.
fn keep_image(image: u32, group: vec3<u32>, groups: vec3<u32>, lane: u32) {
    if (MEASURE) {
        let all = gathered(lane, folded());
        if (lane == 0u && image < p.all) {
            keep(workgroup_of(group, groups), all);
        }
    }
}
