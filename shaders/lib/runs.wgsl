// The end of kernels whose workgroups make runs of 4 places x 8 vec4s of output channels, 8 lanes each. Needs measure, and
// `tile_x`, workgroup memory of two vec4s per lane.

// Where the sum of a part lies.
fn sum_at(part: u32, s: Spot, out: u32) -> u32 {
    return ((part * p.variants + variant) * p.pixels + pixel_of(s)) * p.chunk_c4 + out;
}

// Keeps what the 8 lanes that share their places saw, as one; all lanes must ask. Their `tile_x` has had its use.
fn keep_run(s: Spot, column: u32, lane: u32) {
    var mine = folded();
    tile_x[2u * lane] = vec4<f32>(mine.worst, mine.sum_sq, mine.sum_abs, mine.ref_max);
    // Halves of an index are whole numbers that f32 has.
    let half = vec2<f32>(f32(mine.at >> 16u), f32(mine.at & 0xffffu));
    tile_x[2u * lane + 1u] = vec4<f32>(mine.ref_sum_sq, half, f32(mine.non_finite));
    workgroupBarrier();
    if (lane % 8u == 0u && is_pixel(s) && column * 8u < p.chunk_c4) {
        for (var i = 1u; i < 8u; i++) {
            let a = tile_x[2u * (lane + i)];
            let b = tile_x[2u * (lane + i) + 1u];
            let at = u32(b.y) << 16u | u32(b.z);
            mine = merge(mine, Stats(a.x, at, a.y, a.z, a.w, b.x, u32(b.w)));
        }
        keep(slot_of(s, column), mine);
    }
    workgroupBarrier();
}
