//! The direction of dependencies. The table in `docs/architecture.md` is the rule; this reads it and holds the manifests against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// What a package may depend on.
type Allowed = BTreeMap<String, BTreeSet<String>>;

pub fn check() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")?;
    let page =
        std::fs::read_to_string(root.join("docs/architecture.md")).context("cannot read docs/architecture.md")?;
    let allowed = table(&page)?;
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let wrong = violations(&serde_json::from_slice(&output.stdout)?, &allowed)?;
    if wrong.is_empty() {
        println!("flow: {} packages, every arrow points where it may", allowed.len());
        return Ok(());
    }
    bail!("arrows that docs/architecture.md does not allow:\n  {}", wrong.join("\n  "))
}

/// Reads the rows `` | `path/` | what | may depend on | ``; `all` allows everything.
fn table(page: &str) -> Result<Allowed> {
    let mut allowed = Allowed::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [paths, _, may] = cells[..] else { continue };
        for path in paths.split(',') {
            let path = path.trim().trim_matches('`').trim_end_matches('/');
            let name = path.rsplit('/').next().unwrap_or(path);
            let may = may.split(',').map(|name| name.trim().trim_matches('`').to_owned()).filter(|name| name != "–");
            allowed.insert(name.to_owned(), may.collect());
        }
    }
    ensure!(!allowed.is_empty(), "docs/architecture.md has no table of packages");
    Ok(allowed)
}

/// Arrows (of the built code; tests may look further) that the table does not have.
fn violations(metadata: &serde_json::Value, allowed: &Allowed) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let built = dependency["kind"].is_null();
            if built && names.contains(to) && !may.contains(to) && !may.contains("all") {
                wrong.push(format!("{name} → {to}"));
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| package | what | may |\n| --- | --- | --- |\n| `records/` | x | – |\n| `flow/build/` | x | records |\n| `server/` | x | all |\n";

    fn package(name: &str, dependencies: &[&str]) -> serde_json::Value {
        let dependencies: Vec<_> =
            dependencies.iter().map(|d| serde_json::json!({ "name": d, "kind": null })).collect();
        serde_json::json!({ "name": name, "dependencies": dependencies })
    }

    #[test]
    fn an_arrow_that_the_table_lacks_is_named() {
        let allowed = table(PAGE).unwrap();
        let metadata = |records: &[&str]| {
            serde_json::json!({ "packages": [
                package("records", records), package("build", &["records", "serde"]), package("server", &["build", "records"]),
            ]})
        };
        assert!(violations(&metadata(&["serde"]), &allowed).unwrap().is_empty());
        assert_eq!(violations(&metadata(&["build"]), &allowed).unwrap(), ["records → build"]);
    }

    #[test]
    fn a_package_without_a_row_is_named() {
        let metadata = serde_json::json!({ "packages": [package("utils", &[])] });
        assert_eq!(violations(&metadata, &table(PAGE).unwrap()).unwrap(), ["utils is not in the table"]);
    }

    #[test]
    fn the_repository_itself_holds() {
        check().unwrap();
    }
}
