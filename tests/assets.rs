use quantbound::data::*;
use std::path::Path;
#[test]
fn t() {
    for (n, p) in [("bil", IMAGENET), ("bic", EFFICIENTNET_LITE)] {
        let s = ImageSet::open(Path::new("datasets/imagenet-samples"), None).unwrap();
        for i in &s.images {
            std::fs::write(
                format!("/tmp/ours_{n}_{}.rgb", i.name),
                p.pixels(&i.path).unwrap().as_raw(),
            )
            .unwrap();
            image::DynamicImage::ImageRgb8(
                image::ImageReader::open(&i.path)
                    .unwrap()
                    .decode()
                    .unwrap()
                    .into_rgb8(),
            )
            .save(format!("/tmp/dec_{}.png", i.name))
            .unwrap();
        }
        for i in &s.images {
            let q = format!("/tmp/dec_{}.png", i.name);
            std::fs::write(
                format!("/tmp/oursdec_{n}_{}.rgb", i.name),
                p.pixels(Path::new(&q)).unwrap().as_raw(),
            )
            .unwrap();
        }
    }
    for m in Manifest::all(Path::new("datasets")).unwrap() {
        println!("{} {:?}", m.name, m.preprocessing);
        assert!(m.verify().iter().all(|v| v.1.is_ok()))
    }
}
