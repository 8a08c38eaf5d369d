//! `helm create`: the files of a chart to start from.

use crate::{Error, File};

/// What stands for the chart's name in the files, and in starters that people have.
const NAME: &str = "<CHARTNAME>";

const FILES: [(&str, &str); 11] = [
    ("Chart.yaml", include_str!("scaffold/Chart.yaml")),
    (".helmignore", include_str!("scaffold/helmignore")),
    ("values.yaml", include_str!("scaffold/values.yaml")),
    ("templates/_helpers.tpl", include_str!("scaffold/_helpers.tpl")),
    ("templates/NOTES.txt", include_str!("scaffold/NOTES.txt")),
    ("templates/deployment.yaml", include_str!("scaffold/deployment.yaml")),
    ("templates/service.yaml", include_str!("scaffold/service.yaml")),
    ("templates/serviceaccount.yaml", include_str!("scaffold/serviceaccount.yaml")),
    ("templates/ingress.yaml", include_str!("scaffold/ingress.yaml")),
    ("templates/hpa.yaml", include_str!("scaffold/hpa.yaml")),
    ("templates/tests/connection.yaml", include_str!("scaffold/connection.yaml")),
];

/// Refuses what is no name of a chart.
pub fn check_name(name: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > 250 {
        return Err(Error::Chart("chart name must be less than or equal to 250 characters".to_owned()));
    }
    if name.is_empty() || matches!(name, "." | "..") || !name.chars().all(fits) {
        return Err(Error::Chart("chart name must match the regular expression \"^[a-zA-Z0-9._-]+$\"".to_owned()));
    }
    Ok(())
}

/// A chart that installs a web server, with everything that is usually set as a value.
pub fn files(name: &str) -> Vec<File> {
    let files = FILES.iter();
    files.map(|(path, text)| File { name: (*path).to_owned(), data: text.replace(NAME, name).into() }).collect()
}

/// A starter's files as a chart of that name: its name in `Chart.yaml`, and wherever `<CHARTNAME>` stands.
pub fn of_starter(files: Vec<File>, name: &str) -> Result<Vec<File>, Error> {
    files
        .into_iter()
        .map(|file| {
            let Ok(text) = std::str::from_utf8(&file.data) else { return Ok(file) };
            let text = text.replace(NAME, name);
            if file.name != "Chart.yaml" {
                return Ok(File { data: text.into(), ..file });
            }
            let mut found = false;
            let renamed: String = text
                .split_inclusive('\n')
                .map(|line| match line.strip_prefix("name:") {
                    Some(_) if !found => {
                        found = true;
                        format!("name: {name}\n")
                    }
                    _ => line.to_owned(),
                })
                .collect();
            if found {
                return Ok(File { data: renamed.into(), ..file });
            }
            Err(Error::Chart("the starter's Chart.yaml has no line that starts with `name:`".to_owned()))
        })
        .collect()
}
