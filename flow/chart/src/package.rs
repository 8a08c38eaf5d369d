//! Packing a chart: the same chart gives the same bytes.

use std::io::Write;

use crate::{Chart, Error};

/// A packed chart.
#[derive(Clone, Debug)]
pub struct Package {
    /// `NAME-VERSION.tgz`
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Packs a chart and its subcharts. `modified` (seconds since 1970) is written as the time of every file.
pub fn package(chart: &Chart, modified: u64) -> Result<Package, Error> {
    let broken = |error: std::io::Error| Error::Archive(format!("cannot pack {}: {error}", chart.name()));
    // A header without time and operating system, so that nothing but the content decides the bytes.
    let gzip = flate2::GzBuilder::new()
        .comment("Helm")
        .operating_system(255)
        .write(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(gzip);
    add(&mut tar, chart, "", modified).map_err(broken)?;
    let bytes = tar.into_inner().and_then(flate2::write::GzEncoder::finish).map_err(broken)?;
    Ok(Package { name: format!("{}-{}.tgz", chart.name(), chart.metadata.version), bytes })
}

fn add<W: Write>(tar: &mut tar::Builder<W>, chart: &Chart, prefix: &str, modified: u64) -> std::io::Result<()> {
    let base = format!("{prefix}{}", chart.name());
    let mut file = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(modified);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{base}/{name}"), data)
    };
    let mut metadata = chart.metadata.clone();
    let old = metadata.api_version == "v1";
    if old {
        metadata.dependencies.clear();
    }
    file("Chart.yaml", metadata.yaml().as_bytes())?;
    if let (false, Some(lock)) = (old, &chart.lock) {
        file("Chart.lock", lock.yaml().as_bytes())?;
    }
    if let Some(values) = chart.raw("values.yaml") {
        file("values.yaml", values)?;
    }
    if let Some(schema) = &chart.schema {
        file("values.schema.json", schema)?;
    }
    for inner in chart.templates.iter().chain(&chart.files) {
        file(&inner.name, &inner.data)?;
    }
    for subchart in &chart.dependencies {
        add(tar, subchart, &format!("{base}/charts/"), modified)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{File, Loader, Warnings};

    #[test]
    fn there_and_back_and_the_same_again() {
        let file =
            |name: &str, text: &'static str| File { name: name.into(), data: Bytes::from_static(text.as_bytes()) };
        let files = vec![
            file("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.2.3\n"),
            file("values.yaml", "# kept\na: 1\n"),
            file("templates/a.yaml", "a: {{ .Values.a }}\n"),
            file("charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 0.1.0\n"),
        ];
        let loader = Loader::default();
        let chart = loader.files(files, &Warnings::default()).unwrap();
        let packed = package(&chart, 0).unwrap();
        assert_eq!(packed.name, "web-1.2.3.tgz");
        assert_eq!(packed.bytes, package(&chart, 0).unwrap().bytes);
        let back = loader.archive(&packed.bytes, &Warnings::default()).unwrap();
        assert_eq!(back.metadata, chart.metadata);
        assert_eq!(back.raw("values.yaml").unwrap(), "# kept\na: 1\n");
        assert_eq!(back.dependencies[0].name(), "db");
    }
}
