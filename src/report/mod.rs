//! (in the making)
pub struct Built {
    pub html: std::path::PathBuf,
    pub figures: Vec<std::path::PathBuf>,
}
pub fn build(d: &std::path::Path) -> anyhow::Result<Built> {
    Ok(Built {
        html: d.into(),
        figures: vec![],
    })
}
