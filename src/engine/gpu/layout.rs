//! Feature maps on the device: `[image][y][x][channel]`, channels padded with zeros to whole vec4s.

use crate::tensor::Shape;

/// vec4s that hold `channels` channels.
pub fn vec4s(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// Bytes of `images` maps of `shape`.
pub fn bytes(shape: Shape, images: usize) -> u64 {
    16 * vec4s(shape.c) as u64 * shape.pixels() as u64 * images as u64
}

/// NCHW to the device's layout.
pub fn pack(shape: Shape, nchw: &[f32]) -> Vec<f32> {
    let (stride, pixels) = (4 * vec4s(shape.c), shape.pixels());
    let mut out = vec![0.0; nchw.len() / shape.len().max(1) * pixels * stride];
    for (from, to) in nchw
        .chunks(shape.len())
        .zip(out.chunks_mut(pixels * stride))
    {
        for c in 0..shape.c {
            for i in 0..pixels {
                to[i * stride + c] = from[c * pixels + i];
            }
        }
    }
    out
}

/// The device's layout to NCHW.
pub fn unpack<T: From<f32>>(shape: Shape, device: &[f32]) -> Vec<T> {
    let (stride, pixels) = (4 * vec4s(shape.c), shape.pixels());
    let mut out = Vec::with_capacity(device.len() / (pixels * stride) * shape.len());
    for image in device.chunks(pixels * stride) {
        for c in 0..shape.c {
            out.extend((0..pixels).map(|i| T::from(image[i * stride + c])));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_pads_channels_with_zeros_and_unpacking_drops_them() {
        let shape = Shape::new(5, 1, 2);
        let nchw: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let packed = pack(shape, &nchw);
        assert_eq!(packed.len() as u64 * 4, bytes(shape, 2));
        assert_eq!(packed[..8], [0.0, 2.0, 4.0, 6.0, 8.0, 0.0, 0.0, 0.0]);
        assert_eq!(packed[8], 1.0);
        assert_eq!(unpack::<f32>(shape, &packed), nchw);
    }
}
