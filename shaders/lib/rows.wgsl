// The end of a product in registers: a lane has 8 places one after the other for one vec4 of output channels. Needs measure.

fn finish_rows(first: Spot, out: u32, sums: array<vec4<f32>, 8>, bias: vec4<f32>) {
    var acc = sums;
    forget();
    for (var r = 0u; r < 8u; r++) {
        let s = onward(first, r);
        if (is_pixel(s)) {
            make(s, out, acc[r], bias);
            if (MEASURE && p.run == 1u) {
                keep(slot_of(s, out), folded());
                forget();
            }
        }
    }
    if (MEASURE && p.run > 1u && is_pixel(first)) {
        keep(slot_of(first, out), folded());
    }
}
