//! TOML documents that are written for buildpacks and for the launcher.

use serde::Serialize;

/// A table as text.
pub fn document(value: &impl Serialize) -> String {
    // Only maps with keys that are no strings, and numbers that are too large, cannot be written, and no document here has any.
    toml::to_string(value).unwrap_or_default()
}
