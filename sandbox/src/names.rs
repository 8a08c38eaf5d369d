//! What an instance calls its things on the host: everything carries the instance's tag, so that it can be found again.

use std::path::Path;

use data_encoding::HEXLOWER;

/// Eight hexadecimal digits from the root directory and the instance's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    pub(crate) fn new(root: &Path, instance: &str) -> Self {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let mut hasher = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hasher.update(root.as_os_str().as_encoded_bytes());
        hasher.update(b"\0");
        hasher.update(instance.as_bytes());
        Self(HEXLOWER.encode(&hasher.finish().as_ref()[..4]))
    }

    /// Interface names have at most 15 bytes.
    pub(crate) fn bridge(&self) -> String {
        format!("sw{}", self.0)
    }

    /// The host's end of the pair of a network namespace: `sv<tag><number>`.
    pub(crate) fn veth(&self, number: u32) -> String {
        format!("{}{number:x}", self.veth_prefix())
    }

    pub(crate) fn veth_prefix(&self) -> String {
        format!("sv{}", self.0)
    }

    pub(crate) fn table(&self) -> String {
        format!("shipway_{}", self.0)
    }

    /// Below the root of every hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        format!("shipway-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_between_instances() {
        let one = Tag::new(Path::new("/nowhere/a"), "x");
        assert_eq!(one, Tag::new(Path::new("/nowhere/a"), "x"));
        assert_ne!(one, Tag::new(Path::new("/nowhere/a"), "y"));
        assert_ne!(one, Tag::new(Path::new("/nowhere/b"), "x"));
        assert!(one.bridge().len() <= 15);
        assert!(one.veth(0xf_ffff).len() <= 15);
        assert!(one.veth(7).starts_with(&one.veth_prefix()));
    }
}
