// The end of a product in registers: a lane has 8 places one after the other for one vec4 of output channels. Needs measure.

fn finish_rows(first: Spot, out: u32, sums: array<vec4<f32>, 8>, bias: vec4<f32>) {
    forget();
    make_row(first, 0u, out, sums[0], bias);
    make_row(first, 1u, out, sums[1], bias);
    make_row(first, 2u, out, sums[2], bias);
    make_row(first, 3u, out, sums[3], bias);
    make_row(first, 4u, out, sums[4], bias);
    make_row(first, 5u, out, sums[5], bias);
    make_row(first, 6u, out, sums[6], bias);
    make_row(first, 7u, out, sums[7], bias);
    if (MEASURE && is_pixel(first)) {
        keep(slot_of(first, out), folded());
    }
}
