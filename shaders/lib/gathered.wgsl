// Statistics of the 64 lanes of a workgroup as one, in a fixed order. Needs stats.

var<workgroup> gathering: array<Stats, 64>;

// Of lane 0; all lanes must ask.
fn gathered(lane: u32, mine: Stats) -> Stats {
    gathering[lane] = mine;
    for (var half = 32u; half > 0u; half = half / 2u) {
        workgroupBarrier();
        if (lane < half) {
            gathering[lane] = merge(gathering[lane], gathering[lane + half]);
        }
    }
    return gathering[0];
}
