// Kernels whose lanes each make pixels of one image. Needs the parameters `p`.

override MEASURE: bool = false;

// Whether there are several variants.
override SEVERAL: bool = false;

@group(0) @binding(5) var<storage, read> reference: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> partials: array<vec4<u32>>;

// The variant of an image.
fn variant_of(image: u32) -> u32 {
    if (SEVERAL) {
        return image / p.images;
    }
    return 0u;
}
