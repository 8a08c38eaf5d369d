//! Where `helm` keeps its repositories, its copies of their indexes and its log-ins, so that a user of Helm finds theirs here.

use std::path::{Path, PathBuf};

use clap::Args;

use super::shared::{Flags, Shared};

/// Files and directories that are shared with `helm`, as every command takes them.
pub type Places = Shared<PlaceFlags>;

impl Flags for PlaceFlags {
    const ONE: &'static str = "repository_config";
}

// Files and directories that are shared with `helm`.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceFlags {
    /// The file with the names of repositories
    #[arg(long, global = true, value_name = "FILE", env = "HELM_REPOSITORY_CONFIG", hide = true)]
    repository_config: Option<PathBuf>,
    /// The directory with copies of the repositories' indexes
    #[arg(long, global = true, value_name = "DIR", env = "HELM_REPOSITORY_CACHE", hide = true)]
    repository_cache: Option<PathBuf>,
    /// The file with log-ins to registries
    #[arg(long, global = true, value_name = "FILE", env = "HELM_REGISTRY_CONFIG", hide = true)]
    registry_config: Option<PathBuf>,
}

impl PlaceFlags {
    pub fn repositories(&self) -> PathBuf {
        self.repository_config.clone().unwrap_or_else(|| config("repositories.yaml"))
    }

    pub fn registries(&self) -> PathBuf {
        self.registry_config.clone().unwrap_or_else(|| config("registry/config.json"))
    }

    /// The copy of a repository's index.
    pub fn index(&self, repository: &str) -> PathBuf {
        self.cache().join(format!("{repository}-index.yaml"))
    }

    /// The list of a repository's charts, for completion in shells.
    pub fn names(&self, repository: &str) -> PathBuf {
        self.cache().join(format!("{repository}-charts.txt"))
    }

    /// The variables that say where files lie, and where that is.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("HELM_CACHE_HOME", text(base("HELM_CACHE_HOME", "XDG_CACHE_HOME", ".cache"))),
            ("HELM_CONFIG_HOME", text(base("HELM_CONFIG_HOME", "XDG_CONFIG_HOME", ".config"))),
            ("HELM_DATA_HOME", text(data())),
            ("HELM_PLUGINS", text(plugins())),
            ("HELM_REGISTRY_CONFIG", text(self.registries())),
            ("HELM_REPOSITORY_CACHE", text(self.cache())),
            ("HELM_REPOSITORY_CONFIG", text(self.repositories())),
        ]
    }

    fn cache(&self) -> PathBuf {
        let cache = || base("HELM_CACHE_HOME", "XDG_CACHE_HOME", ".cache").join("repository");
        self.repository_cache.clone().unwrap_or_else(cache)
    }
}

fn config(file: &str) -> PathBuf {
    base("HELM_CONFIG_HOME", "XDG_CONFIG_HOME", ".config").join(file)
}

/// Where people keep what charts are made from.
pub fn data() -> PathBuf {
    base("HELM_DATA_HOME", "XDG_DATA_HOME", ".local/share")
}

/// The directories of helm's plugins, separated as in `PATH`.
pub fn plugins() -> PathBuf {
    let set = std::env::var_os("HELM_PLUGINS").filter(|value| !value.is_empty());
    set.map_or_else(|| data().join("plugins"), PathBuf::from)
}

fn base(own: &str, general: &str, default: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").unwrap_or_else(|| PathBuf::from("/")).join(default);
    set(own).unwrap_or_else(|| set(general).unwrap_or_else(home).join("helm"))
}

/// The key ring that GnuPG had before its second version, which is what Helm reads.
pub fn keyring() -> PathBuf {
    let home = std::env::var_os("GNUPGHOME").map(PathBuf::from);
    let default = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".gnupg");
    home.unwrap_or_else(default).join("pubring.gpg")
}

/// Writes a file whole or not at all. What others may not read is for this user alone.
pub fn write(path: &Path, content: &[u8], private: bool) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::PermissionsExt};
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    let mode = if private { 0o600 } else { 0o644 };
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
