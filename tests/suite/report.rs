//! The report is made from a run directory alone, needs nothing beside itself, and says what the tables say.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::parts;
use crate::common::run_dir::{BOUNDS, Make};
use quantbound::report::paper::{Format, Request, What, figures_for_print};
use quantbound::report::{Built, build, build_at};
use quantbound::results::schema::{BoundRow, MeasurementRow, OutputRow, file};
use quantbound::results::store::{RunStore, for_each_row, read_summary};

fn made(make: &Make) -> (tempfile::TempDir, Built, String) {
    let dir = tempfile::tempdir().unwrap();
    make.write(dir.path());
    let built = build(dir.path()).unwrap();
    let html = std::fs::read_to_string(&built.html).unwrap();
    (dir, built, html)
}

/// The part of the page between `<h2 id="id">` and the next heading.
fn section<'a>(html: &'a str, id: &str) -> &'a str {
    let (_, rest) = html
        .split_once(&format!("<h2 id=\"{id}\">"))
        .unwrap_or_else(|| panic!("no section {id}"));
    rest.split("<h2 ").next().unwrap()
}

/// `data-v` of the cells of the table row that starts with `start`.
fn row_values(section: &str, start: &str) -> Vec<f64> {
    let (_, rest) = section
        .split_once(start)
        .unwrap_or_else(|| panic!("no row {start}"));
    let row = rest.split("</tr>").next().unwrap();
    row.split("data-v=\"")
        .skip(1)
        .map(|v| v.split('"').next().unwrap().parse().unwrap())
        .collect()
}

/// `(cell, depth)` to the largest measurement.
fn worst(dir: &Path) -> BTreeMap<(String, u32), f64> {
    let mut worst = BTreeMap::new();
    for_each_row(&dir.join(file::MEASUREMENTS), |r: MeasurementRow| {
        let max: &mut f64 = worst.entry((r.cell_id, r.depth)).or_insert(0.0);
        *max = max.max(r.max_abs_diff);
    })
    .unwrap();
    worst
}

#[test]
fn the_page_needs_nothing_beside_itself() {
    let (_dir, _, html) = made(&Make::default());
    for scheme in ["http:", "https:", "//cdn", "@import", "url("] {
        assert!(!html.contains(scheme), "the page has {scheme}");
    }
    for attribute in ["src=", "<link", "<img", "<iframe", "fetch("] {
        assert!(!html.contains(attribute), "the page has {attribute}");
    }
    // What the run says about itself is text, never markup.
    assert!(!html.contains("<script>alert"));
    assert!(html.contains("&lt;script&gt;alert"));
}

#[test]
fn every_figure_is_on_the_page_and_there_as_svg_and_png() {
    let (dir, built, html) = made(&Make::default());
    let stems: Vec<String> = [
        "depth-mobilenet-v2-uniform-symmetric-4bit",
        "depth-mobilenet-v2-uniform-symmetric-8bit",
        "bits-mobilenet-v2-uniform-symmetric",
        "top1-mobilenet-v2-uniform-symmetric",
    ]
    .map(String::from)
    .into();
    let expected: Vec<_> = stems
        .iter()
        .flat_map(|s| [format!("{s}.svg"), format!("{s}.png")])
        .map(|name| dir.path().join("figures").join(name))
        .collect();
    assert_eq!(built.figures, expected);
    assert_eq!(html.matches("role=\"img\"").count(), stems.len());
    for path in &built.figures {
        let bytes = std::fs::read(path).unwrap();
        if path.extension().unwrap() == "png" {
            let image = image::load_from_memory(&bytes).unwrap().to_rgb8();
            let ink = image
                .pixels()
                .filter(|p| p.0.iter().any(|&c| c < 128))
                .count();
            assert!(
                image.width() > 800 && ink > 2000,
                "{}: {ink}",
                path.display()
            );
        } else {
            let svg = String::from_utf8(bytes).unwrap();
            assert!(svg.starts_with("<svg xmlns="), "{}", path.display());
            assert!(svg.trim_end().ends_with("</svg>"), "{}", path.display());
        }
    }
    for stem in &stems {
        assert!(
            html.contains(&format!("href=\"figures/{stem}.svg\"")),
            "{stem}"
        );
    }
}

#[test]
fn a_figure_draws_every_bound_through_every_depth() {
    let make = Make {
        bits: vec![8],
        ..Make::default()
    };
    let (dir, built, html) = made(&make);
    // One bit width is no curve against bits.
    assert_eq!(built.figures.len(), 2, "{:?}", built.figures);
    assert!(!html.contains("id=\"bits\"") && !html.contains("id=\"top1\""));
    let svg = std::fs::read_to_string(&built.figures[0]).unwrap();
    let depths = make.models[0].1 + 1;
    for (id, ..) in BOUNDS {
        let titled: Vec<&str> = svg.split(&format!("<title>{id}</title>")).skip(1).collect();
        assert_eq!(titled.len(), 2, "{id}: a line in each of the two panels");
        for group in titled {
            let path = group.split("d=\"").nth(1).unwrap();
            let points = path.split('"').next().unwrap().matches(['M', 'L']).count();
            assert_eq!(points as u32, depths, "{id}");
        }
    }
    drop(dir);
}

#[test]
fn the_looseness_table_says_what_the_tables_say() {
    let (dir, _, html) = made(&Make::default());
    let worst = worst(dir.path());
    let mut outputs: BTreeMap<String, f64> = BTreeMap::new();
    for_each_row(&dir.path().join(file::OUTPUTS), |r: OutputRow| {
        let max = outputs.entry(r.cell_id).or_insert(0.0);
        *max = max.max(r.max_abs_diff);
    })
    .unwrap();
    let mut bounds: BTreeMap<(String, String, u32), f64> = BTreeMap::new();
    for_each_row(&dir.path().join(file::BOUNDS), |r: BoundRow| {
        bounds.insert((r.cell_id, r.bound, r.depth), r.log10_bound);
    })
    .unwrap();

    let table = section(&html, "looseness");
    assert_eq!(table.matches("<tr data-cell").count(), 4 * BOUNDS.len());
    let (layers, last) = (6, 7);
    for cell in outputs.keys() {
        for (id, ..) in BOUNDS {
            let got = row_values(
                table,
                &format!("<tr data-cell=\"{cell}\" data-bound=\"{id}\">"),
            );
            let at = |depth| bounds[&(cell.clone(), id.to_string(), depth)];
            let at_layer = worst[&(cell.clone(), layers)];
            let at_output = outputs[cell];
            let want = [
                at(last) - at_output.log10(),
                at_output,
                at(last),
                at(layers) - at_layer.log10(),
                at_layer,
                at(layers),
            ];
            assert_eq!(&got[1..], want, "{cell} {id}: not to the last digit");
        }
    }
}

#[test]
fn a_network_that_ends_in_a_layer_has_one_end() {
    let make = Make {
        output_tap: false,
        ..Make::default()
    };
    let (dir, _, html) = made(&make);
    let table = section(&html, "looseness");
    assert!(table.contains("the output, which is the last layer"));
    let start = "<tr data-cell=\"mobilenet_v2-8-per-channel\" data-bound=\"fused\">";
    let got = row_values(table, start);
    let measured = worst(dir.path())[&("mobilenet_v2-8-per-channel".to_string(), 6)];
    assert_eq!(got.len(), 4);
    assert_eq!(got[2], measured);
    assert_eq!(got[1], got[3] - measured.log10());
}

#[test]
fn the_headline_is_the_tightest_bound_and_the_range_measured() {
    let (dir, _, html) = made(&Make::default());
    let summary = read_summary(dir.path()).unwrap();
    let cards = html.split("class=\"cards\"").nth(1).unwrap();
    let cards = cards.split("</section>").next().unwrap();
    assert!(
        cards.contains(&format!("{} hold", summary.counts.holds)),
        "{cards}"
    );
    // Capped bounds are tighter in number, and say nothing about weights.
    let plain = |b: &&quantbound::results::schema::BoundAt| !b.bound.ends_with("+cap");
    let all = summary
        .cells
        .iter()
        .flat_map(|c| c.output.bounds.iter().filter(plain));
    let tightest = all
        .min_by(|a, b| a.looseness.total_cmp(&b.looseness))
        .unwrap();
    assert!(
        cards.contains(&format!("<sup>{:.1}</sup>", tightest.looseness))
            && cards.contains(&tightest.bound),
        "{} {}: {cards}",
        tightest.bound,
        tightest.looseness
    );
}

#[test]
fn nan_and_infinity_are_invalid_and_never_a_number() {
    let make = Make {
        nan_image: Some(1),
        ..Make::default()
    };
    let (_dir, _, html) = made(&make);
    assert!(html.contains("Rows that are NaN or infinite: 1."));
    let verdicts = section(&html, "verdicts");
    let row = verdicts
        .split("<tr data-cell=\"mobilenet_v2-4-per-tensor\">")
        .nth(1)
        .unwrap();
    let row = row.split("</tr>").next().unwrap();
    assert_eq!(
        row.matches("class=\"invalid\"").count(),
        BOUNDS.len(),
        "{row}"
    );
    assert!(row.contains("? 1 invalid"));
    let clean = verdicts
        .split("<tr data-cell=\"mobilenet_v2-8-per-tensor\">")
        .nth(1)
        .unwrap();
    let clean = clean.split("</tr>").next().unwrap();
    assert_eq!(
        clean.matches("class=\"holds\"").count(),
        BOUNDS.len(),
        "{clean}"
    );
    assert!(verdicts.contains("Without a verdict") && verdicts.contains("image1.jpg"));
    assert!(!html.contains("class=\"n\" data-v=\"NaN\">NaN"));
}

/// Merges the parts of all cells again.
fn finish(store: &RunStore) {
    let summary = read_summary(store.dir()).unwrap();
    let ids = summary.cells.iter().map(|c| c.key.cell_id.as_str());
    let cells: Vec<(&str, u32)> = ids.map(|id| (id, 1)).collect();
    parts::finish(store, &cells).unwrap();
}

#[test]
fn an_invalid_output_has_no_looseness() {
    let dir = tempfile::tempdir().unwrap();
    Make::default().write(dir.path());
    let cell = "mobilenet_v2-8-per-channel";
    {
        let store = RunStore::create_or_open(dir.path()).unwrap();
        let part = parts::measured(cell, 0);
        let measurements: Vec<MeasurementRow> = store.read(&part).unwrap();
        let mut outputs: Vec<OutputRow> = store.read(&part).unwrap();
        outputs[2].max_abs_diff = f64::INFINITY;
        let meta = store.meta(&part).unwrap();
        parts::write_measured(&store, &part, &measurements, &outputs, &meta).unwrap();
        finish(&store);
    }
    let built = build(dir.path()).unwrap();
    let html = std::fs::read_to_string(built.html).unwrap();
    let start = format!("<tr data-cell=\"{cell}\" data-bound=\"fused\">");
    let values = row_values(section(&html, "looseness"), &start);
    assert!(values[1].is_nan() && values[2].is_nan(), "{values:?}");
    assert!(values[3..].iter().all(|v| v.is_finite()), "{values:?}");
    assert!(html.contains("invalid: 1 of 5 rows NaN or infinite"));
}

#[test]
fn a_measurement_above_its_bound_is_never_silent() {
    let dir = tempfile::tempdir().unwrap();
    Make::default().write(dir.path());
    let cell = "mobilenet_v2-8-per-channel";
    {
        let store = RunStore::create_or_open(dir.path()).unwrap();
        let part = parts::bounds(cell);
        let mut bounds: Vec<BoundRow> = store.read(&part).unwrap();
        let row = bounds
            .iter_mut()
            .find(|r| r.bound == "fused" && r.depth == 3)
            .unwrap();
        row.log10_bound = -20.0;
        parts::write_bounds(&store, &part, &bounds).unwrap();
        finish(&store);
    }
    let html = std::fs::read_to_string(build(dir.path()).unwrap().html).unwrap();
    let said =
        "8 bit per-channel, fused: 1 depths are above the bound as measured, 0 of them in f64 too.";
    assert!(html.contains(said));
}

#[test]
fn a_software_adapter_is_said_plainly_and_a_real_one_is_not_called_so() {
    let (_dir, _, html) = made(&Make::default());
    assert!(html.contains("Software adapter."));
    let real = Make {
        device: "wgpu-f32 on Some GPU 3000, discrete-gpu",
        ..Make::default()
    };
    let (_dir, _, html) = made(&real);
    assert!(!html.contains("Software adapter."));
    assert!(html.contains("Some GPU 3000"));
}

#[test]
fn a_missing_file_is_named() {
    for name in [
        file::MEASUREMENTS,
        file::OUTPUTS,
        file::BOUNDS,
        file::SUMMARY,
        file::PROVENANCE,
    ] {
        let dir = tempfile::tempdir().unwrap();
        Make::default().write(dir.path());
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let error = build(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("no such file"),
            "{name}: {error}"
        );
        assert!(!dir.path().join("report.html").exists());
    }
    let error = build("no/such/run").unwrap_err().to_string();
    assert!(error.contains("no/such/run"), "{error}");
}

#[test]
fn tables_that_contradict_the_summary_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    Make::default().write(dir.path());
    let mut summary = read_summary(dir.path()).unwrap();
    let dropped = summary.cells.pop().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    store.write_summary(&summary).unwrap();
    let error = build(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains(file::SUMMARY) && error.contains(&dropped.key.cell_id),
        "{error}"
    );
}

#[test]
fn rows_of_a_cell_that_stand_apart_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    Make::default().write(dir.path());
    let mut rows: Vec<MeasurementRow> = Vec::new();
    for_each_row(&dir.path().join(file::MEASUREMENTS), |row| rows.push(row)).unwrap();
    let first = rows.remove(0);
    rows.push(first);
    let store = RunStore::create_or_open(dir.path()).unwrap();
    store.write_table(&rows).unwrap();
    let error = build(dir.path()).unwrap_err().to_string();
    assert!(error.contains("do not stand together"), "{error}");
}

#[test]
fn figures_are_drawn_again_where_they_are_others_or_gone() {
    let (dir, built, _) = made(&Make::default());
    let [svg, png] = &built.figures[..2] else {
        panic!("a figure is an SVG and a PNG");
    };
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    let (text, pixels) = (bytes(svg), bytes(png));
    // As long as nothing changed, what is there is taken.
    std::fs::write(png, "taken").unwrap();
    build(dir.path()).unwrap();
    assert_eq!(bytes(png), b"taken");
    for spoil in [svg, &dir.path().join("figures/drawn-by.txt")] {
        std::fs::write(spoil, "another").unwrap();
        std::fs::write(png, "stale").unwrap();
        build(dir.path()).unwrap();
        assert!(
            bytes(svg) == text && bytes(png) == pixels,
            "{}",
            spoil.display()
        );
    }
    std::fs::remove_file(png).unwrap();
    build(dir.path()).unwrap();
    assert!(bytes(png) == pixels);
}

#[test]
fn equal_results_give_an_equal_report() {
    let (a, built, _) = made(&Make::default());
    let (b, ..) = made(&Make::default());
    let mut files = built.figures.clone();
    files.push(built.html);
    for path in files {
        let name = path.strip_prefix(a.path()).unwrap();
        let same = std::fs::read(&path).unwrap() == std::fs::read(b.path().join(name)).unwrap();
        assert!(same, "{} differs", name.display());
    }
}

#[test]
fn the_page_begins_with_a_verdict_and_tells_its_script_of_cells_and_layers() {
    let (dir, _, html) = made(&Make::default());
    let summary = read_summary(dir.path()).unwrap();
    let said = html.split("class=\"verdict").nth(1).unwrap();
    let said = said.split('<').next().unwrap();
    let total = summary.counts.total();
    assert!(
        said.contains(&format!("in all {total} comparisons")),
        "{said}"
    );
    assert!(html.find("class=\"verdict").unwrap() < html.find("class=\"cards\"").unwrap());
    let data = html.split("id=\"run\">").nth(1).unwrap();
    let data: serde_json::Value =
        serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    assert_eq!(data["cells"].as_array().unwrap().len(), summary.cells.len());
    let model = &summary.cells[0].key.model;
    let names = data["layers"][model].as_array().unwrap();
    let last = summary.cells[0].final_layer.clone();
    assert_eq!(names[last.depth as usize - 1], last.layer.as_str());
}

#[test]
fn a_run_without_bounds_has_no_empty_tables_and_no_panel_twice() {
    let make = Make {
        bounded: false,
        ..Make::default()
    };
    let (dir, _, html) = made(&make);
    assert!(html.contains("No bound was evaluated"));
    for id in ["looseness", "verdicts", "bounds"] {
        let (anchor, link) = (format!("id=\"{id}\""), format!("href=\"#{id}\""));
        assert!(!html.contains(&anchor) && !html.contains(&link), "{id}");
    }
    let cards = html.split("class=\"cards\"").nth(1).unwrap();
    let cards = cards.split("</section>").next().unwrap();
    assert!(!cards.contains("hold") && !cards.contains("a-priori"));
    for name in [
        "depth-mobilenet-v2-uniform-symmetric-8bit",
        "bits-mobilenet-v2-uniform-symmetric",
    ] {
        let svg = dir.path().join(format!("figures/{name}.svg"));
        let svg = std::fs::read_to_string(svg).unwrap();
        assert!(!svg.contains("bounds and measurement"), "{name}");
        let alone = svg.matches("the measurement alone").count();
        assert_eq!(alone, 2, "{name}: one panel for each granularity");
    }
}

#[test]
fn figures_beyond_a_number_are_left_out_and_it_is_said() {
    let make = Make {
        bits: (2..=10).collect(),
        ..Make::default()
    };
    let dir = tempfile::tempdir().unwrap();
    make.write(dir.path());
    let whole = build(dir.path()).unwrap();
    let few = build_at(dir.path(), dir.path(), 2).unwrap();
    let depth = |built: &Built| {
        let names = built.figures.iter().map(|f| f.display().to_string());
        names
            .filter(|f| f.contains("/depth-") && f.ends_with(".svg"))
            .count()
    };
    assert_eq!((depth(&whole), depth(&few)), (9, 2));
    // The bit width that most readers look for is among those that stay.
    assert!(
        few.figures
            .iter()
            .any(|f| f.ends_with("depth-mobilenet-v2-uniform-symmetric-8bit.svg"))
    );
    let html = std::fs::read_to_string(&few.html).unwrap();
    assert!(html.contains("7 more figures are not drawn"));
    let left = std::fs::read_dir(dir.path().join("figures")).unwrap();
    let left = left.map(|f| f.unwrap().path());
    let left = left.filter(|f| f.extension().is_some_and(|e| e != "txt"));
    assert_eq!(
        left.count(),
        few.figures.len(),
        "those of the larger page are gone"
    );
}

#[test]
fn figures_for_print_have_their_width_and_the_numbers_behind_them() {
    let make = Make::default();
    let dir = tempfile::tempdir().unwrap();
    make.write(dir.path());
    let request = Request {
        what: What::Depth,
        formats: vec![
            Format::Svg,
            Format::Pdf,
            Format::Png,
            Format::Csv,
            Format::Latex,
            Format::Markdown,
        ],
        width: 3.3,
        curves: vec!["layerwise".into()],
        only: vec!["8 bits".into()],
    };
    let out = dir.path().join("print");
    let files = figures_for_print(dir.path(), &out, &request).unwrap();
    // Two panels, per tensor and per channel.
    assert_eq!(files.len(), 12, "{files:?}");
    let read = |ending: &str| {
        let file = files
            .iter()
            .find(|f| f.extension().unwrap() == ending)
            .unwrap();
        std::fs::read(file).unwrap()
    };
    let svg = String::from_utf8(read("svg")).unwrap();
    assert!(svg.contains("width=\"3.3in\""));
    assert!(svg.contains("<title>layerwise</title>") && !svg.contains("<title>gonon2023</title>"));
    assert!(String::from_utf8_lossy(&read("pdf")).contains("/MediaBox[0 0 237.600"));
    let image = image::load_from_memory(&read("png")).unwrap();
    assert!(image.width() > 600, "{}", image.width());
    // Every depth of the bound, with the table's own number.
    let mut stored = Vec::new();
    let cells = read_summary(dir.path()).unwrap().cells;
    let cell = cells.iter().find(|c| c.key.bits == 8).unwrap();
    for_each_row(&dir.path().join(file::BOUNDS), |r: BoundRow| {
        if r.cell_id == cell.key.cell_id && r.bound == "layerwise" {
            stored.push((r.depth, r.log10_bound));
        }
    })
    .unwrap();
    let csv = String::from_utf8(read("csv")).unwrap();
    for (depth, log10) in stored {
        assert!(
            csv.contains(&format!("\"layerwise\",\"{depth}\",{log10}\n")),
            "{csv}"
        );
    }
    let tex = String::from_utf8(read("tex")).unwrap();
    assert!(
        tex.contains("\\toprule") && tex.contains(" & layerwise"),
        "{tex}"
    );
    let md = String::from_utf8(read("md")).unwrap();
    assert!(md.contains("| at | "), "{md}");
    let none = Request {
        only: vec!["no such model".into()],
        ..request
    };
    let error = figures_for_print(dir.path(), &out, &none).unwrap_err();
    assert!(error.to_string().contains("no such figure"), "{error}");
}

#[test]
fn what_is_far_below_is_text_for_scripts_and_there_without_them() {
    let make = Make {
        bits: (2..=10).collect(),
        ..Make::default()
    };
    let (_dir, _, html) = made(&make);
    let kept: Vec<&str> = html.split("<noscript>").skip(1).collect();
    let kept: Vec<&str> = kept
        .iter()
        .map(|k| k.split_once("</noscript>").unwrap().0)
        .collect();
    assert_eq!(html.matches("</noscript>").count(), kept.len());
    let whole = |k: &&str| {
        let ends = |start: &str, end: &str| k.starts_with(start) && k.ends_with(end);
        ends("<svg", "</svg>") || ends("<table", "</table>")
    };
    assert!(kept.iter().all(whole));
    // Every table that may have thousands of rows, and the figures that are closed.
    let tables = html.matches("<table class=\"sortable\"").count()
        + html.matches("-table\" class=\"sortable\"").count();
    let kept_tables = kept.iter().filter(|k| k.starts_with("<table")).count();
    assert_eq!(kept_tables, tables);
    let closed = html.matches("<details class=\"figure-of\"").count()
        - html
            .split("<details class=\"figure-of\"")
            .skip(1)
            .filter(|f| {
                f.split('>')
                    .next()
                    .is_some_and(|tag| tag.ends_with(" open"))
            })
            .count();
    assert!(closed > 0 && kept.len() - kept_tables >= closed);
}
