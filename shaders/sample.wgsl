// Upper bounds on the errors after one node, put together from what its parts let through; one invocation per
// pixel x 4 channels. Everything is rounded upward; errors are kept divided by a power of two, which `to_scale`
// brings the other parts to and `shrink` changes.
//
// e = pruned(up * (gain through + |local| + spread + rounding sizes + floor)) around the pre-activation p, or, with a
// reach, around every p within up * (gain reach + 2 rounding sizes + floor) of it.
// All maps: [pixels][c4] vec4.

struct Params {
    // Two factors, whose product may be too small for one number.
    to_scale: vec2<f32>,
    shrink: vec2<f32>,
    count: u32,
    c4: u32,
    c: u32,
    activation: u32,
    // 1: local, 2: sizes, 4: spread, 8: reach; other maps are not read.
    parts: u32,
    // 1 when errors are scaled: then activations are taken at their range alone.
    scaled: u32,
    infinity_bits: u32,
    nan_bits: u32,
    gain: f32,
    rounding: f32,
    floor: f32,
    up: f32,
    // Sizes from here on may overflow in the engine.
    limit: f32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pre: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> through: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> local: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> sizes: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> spread: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> reach: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> e: array<vec4<f32>>;

const RISE: f32 = 1.000001;
const FALL: f32 = 0.999999;
const TINY: f32 = 2.4e-38;
const LARGE: f32 = 1e38;

// max(v, 0), rounded upward; `v` is one rounded sum.
fn above_zero(v: f32) -> f32 {
    if (v <= 0.0) {
        return 0.0;
    }
    return v * RISE + TINY;
}

// The most that the activation lets through of a step of at most `size` from anywhere in [low, high]: upward from the
// number nearest to 0, downward from the one nearest to the step.
fn pruned(low: f32, high: f32, size: f32) -> f32 {
    if (p.activation == 0u || size == 0.0) {
        return size;
    }
    var cap = LARGE;
    if (p.activation == 2u) {
        cap = 6.0;
    }
    let from_low = min(max(0.0, low), high);
    var up = min(size, above_zero(cap - from_low));
    if (from_low < 0.0) {
        // Inflated first, so that a sum too small for normal numbers is not taken for none.
        up = above_zero(from_low + (size * RISE + TINY));
    }
    let from_high = min(max(size, low), high);
    var down = min(size, max(from_high, 0.0));
    if (from_high > cap) {
        down = above_zero(size * RISE + TINY - (from_high - cap) * FALL);
    }
    return min(min(max(up, down), size), cap);
}

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
    let zero = vec4<f32>(0.0);
    var part_local = zero;
    var part_sizes = zero;
    var part_spread = zero;
    var part_reach = zero;
    if ((p.parts & 1u) != 0u) {
        part_local = abs(local[item]);
    }
    if ((p.parts & 2u) != 0u) {
        part_sizes = sizes[item];
    }
    if ((p.parts & 4u) != 0u) {
        part_spread = spread[item];
    }
    if ((p.parts & 8u) != 0u) {
        part_reach = reach[item];
    }
    let center = pre[item];
    let here = (part_local + part_spread + p.rounding * part_sizes) * p.to_scale.x * p.to_scale.y;
    let before = p.up * (p.gain * through[item] + here + p.floor);
    let span = p.up * (p.gain * part_reach + 2.0 * p.rounding * part_sizes + p.floor);
    var result = zero;
    for (var j = 0u; j < 4u; j++) {
        if (item % p.c4 * 4u + j >= p.c) {
            break;
        }
        let pre_bits = bitcast<u32>(center[j]) & 0x7fffffffu;
        let size_bits = bitcast<u32>(part_sizes[j]) & 0x7fffffffu;
        let bits = bitcast<u32>(before[j]) & 0x7fffffffu;
        if (pre_bits >= 0x7f800000u || size_bits > 0x7f800000u || bits > 0x7f800000u) {
            result[j] = bitcast<f32>(p.nan_bits);
            continue;
        }
        // The order of bits is that of nonnegative numbers.
        if (size_bits >= bitcast<u32>(p.limit) || bits >= bitcast<u32>(LARGE)) {
            result[j] = bitcast<f32>(p.infinity_bits);
            if (p.activation == 2u) {
                result[j] = 6.0;
            }
            continue;
        }
        var size = before[j];
        if (p.scaled != 0u) {
            if (p.activation == 2u && size > 0.0) {
                size = 6.0;
            }
        } else {
            var low = center[j];
            var high = center[j];
            if ((p.parts & 8u) != 0u) {
                let bits_span = bitcast<u32>(span[j]) & 0x7fffffffu;
                if (bits_span >= bitcast<u32>(LARGE)) {
                    low = -LARGE;
                    high = LARGE;
                } else {
                    low = low - span[j];
                    high = high + span[j];
                    low = low - abs(low) * 1e-6;
                    high = high + abs(high) * 1e-6;
                }
            }
            size = pruned(low, high, size);
        }
        let shrunk = size * p.shrink.x * p.shrink.y;
        if (size > 0.0 && p.shrink.x < 1.0) {
            size = max(shrunk, TINY);
        }
        result[j] = size;
    }
    e[item] = result;
}
