//! The page of many runs side by side.

use std::path::Path;

use minijinja::context;
use minijinja::value::Value;

use super::scale::short;
use super::{ReportError, plain};
use crate::results::history::{Followed, History, Night, Point, Series, Worth};

/// Rows of a table; the others are counted.
const ROWS: usize = 300;
/// Of a sparkline, in pixels.
const SIZE: (f64, f64) = (220.0, 26.0);

/// Writes the page of a history; regressions of `persist` nights or more come first.
pub fn history(history: &History, persist: usize, page: &Path) -> Result<(), ReportError> {
    let nights = &history.nights;
    // A page in the folder of the nights leads to theirs.
    let beside = page.parent() == Some(&history.root);
    let night = |n: &Night| {
        let own = n.dir.join("night.html");
        let page = (beside && own.is_file()).then(|| format!("{}/night.html", n.name));
        context! { name => n.name.clone(), worth => n.worth.name(), why => n.why.clone(), page }
    };
    let stays = |s: &&Series| s.worse >= persist.max(1);
    let fresh = |s: &&Series| s.worse > 0 && s.worse < persist.max(1);
    let moved = |s: &&Series| s.worse == 0 && s.moved && s.what != Followed::Speed;
    let rest = |s: &&Series| s.worse == 0 && !moved(s);
    let all = |keep: &dyn Fn(&&Series) -> bool| history.series.iter().filter(|s| keep(s)).collect();
    let groups: [(String, Vec<&Series>); 4] = [
        (format!("Worse for {persist} nights or more"), all(&stays)),
        ("Worse since".into(), all(&fresh)),
        ("Moved last night, not for the worse".into(), all(&moved)),
        ("As before".into(), all(&rest)),
    ];
    let groups = groups.into_iter().filter(|(_, series)| !series.is_empty());
    let groups: Vec<Value> = groups
        .map(|(title, series)| group(title, &series))
        .collect();
    let ends = [nights.first(), nights.last()].map(|n| n.map_or("", |n| n.name.as_str()));
    let bad = nights.iter().rev().filter(|n| n.worth != Worth::Good);
    let values = context! {
        title => format!("{} nights, {} to {}", nights.len(), ends[0], ends[1]),
        span => format!("{} to {}", ends[0], ends[1]),
        root => history.root.display().to_string(),
        counts => history.counts(),
        nights => nights.iter().map(night).collect::<Vec<_>>(),
        bad => bad.map(night).collect::<Vec<_>>(),
        groups,
    };
    plain::write("history.html", include_str!("history.html"), values, page)
}

fn group(title: String, series: &[&Series]) -> Value {
    let rows: Vec<Value> = series.iter().take(ROWS).map(|s| row(s)).collect();
    context! { title, rows, more => series.len().saturating_sub(ROWS) }
}

fn row(series: &Series) -> Value {
    let said = |point: Option<&Point>| match (point, &series.what) {
        (None, _) => String::new(),
        (Some(p), Followed::Bound(_)) => format!("10^{:.3}", p.value),
        (Some(p), _) => short(p.value),
    };
    let known = || series.points.iter().flatten();
    context! {
        what => series.what.name(), cell => series.cell.clone(), worse => series.worse,
        first => said(known().next()), last => said(known().last()),
        spark => Value::from_safe_string(spark(series)),
    }
}

/// The numbers as one line that breaks where a night has none, the nights that are worse marked.
fn spark(series: &Series) -> String {
    let (width, height) = SIZE;
    let values = || series.points.iter().flatten().map(|p| p.value);
    let finite = values().filter(|v| v.is_finite());
    let (lo, hi) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| {
        (lo.min(v), hi.max(v))
    });
    let count = series.points.len().max(2) - 1;
    let x = |i: usize| 4.0 + (width - 8.0) * i as f64 / count as f64;
    let y = |v: f64| match hi > lo {
        true => height - 4.0 - (height - 8.0) * (v - lo) / (hi - lo),
        false => height / 2.0,
    };
    let (mut path, mut dots, mut pen) = (String::new(), String::new(), false);
    let numbers = series.points.iter().flatten().count();
    let mut seen = 0;
    for (i, point) in series.points.iter().enumerate() {
        let Some(point) = point.filter(|p| p.value.is_finite()) else {
            pen = false;
            continue;
        };
        let (x, y) = (x(i), y(point.value));
        path += &format!("{}{x:.1} {y:.1}", if pen { "L" } else { "M" });
        pen = true;
        seen += 1;
        let worse = seen > numbers - series.worse.min(numbers);
        let (radius, colour) = if worse {
            (2.6, "#b00020")
        } else {
            (1.4, "#1d4f91")
        };
        dots += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>");
    }
    format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{} from night to night\"><path d=\"{path}\" fill=\"none\" stroke=\"#1d4f91\"/>{dots}</svg>",
        series.what.name()
    )
}
