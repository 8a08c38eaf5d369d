//! The administrator's token: made at the first start, readable by its owner only.

use std::{
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use base64::Engine;

use crate::fault::{Class, Fault, Result};

/// A secret that lets its bearer write.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads the token of a data directory, or makes it.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match Self::load(path) {
            Err(fault) if fault.class == Class::NotFound => Self::create(path),
            other => other,
        }
    }

    /// Reads a token; `NotFound` when there is none, refused when others can read it.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let class = if e.kind() == std::io::ErrorKind::NotFound { Class::NotFound } else { Class::Unavailable };
            Fault::new(class, format!("cannot read the token {}: {e}", path.display()))
        };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Fault::new(Class::Unauthorized, format!("the token {} can be read by others", path.display()))
                .hint(format!("chmod 600 {}, and replace the token if it leaked", path.display())));
        }
        Ok(Self(std::fs::read_to_string(path).map_err(failed)?.trim().to_owned()))
    }

    fn create(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Fault::new(Class::Unavailable, format!("cannot write the token {}: {e}", path.display()))
        };
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| Fault::new(Class::Unavailable, "the system gives no random numbers"))?;
        let token = format!("swt_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random));
        let temporary = path.with_extension("new");
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        file.write_all(token.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)?;
        Ok(Self(token))
    }

    /// Compares in constant time.
    pub fn is(&self, given: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), given.as_bytes()).is_ok()
    }

    /// Whether an `Authorization` header carries the token: as bearer, or as the password of the user `admin`.
    pub fn authorizes(&self, header: Option<&str>) -> bool {
        let Some((scheme, value)) = header.and_then(|header| header.split_once(' ')) else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is(value.trim());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        matches!(text.split_once(':'), Some(("admin", password)) if self.is(password))
    }

    /// The secret itself, for a client's header.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A token that a person gave.
    pub fn given(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin-token");
        let token = Token::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(token.is(Token::load_or_create(&path).unwrap().reveal()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::load(&path).is_err());
    }

    #[test]
    fn is_taken_as_bearer_or_as_the_password_of_admin() {
        let token = Token::given("secret");
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        assert!(token.authorizes(Some("Bearer secret")));
        assert!(token.authorizes(Some(&basic("admin:secret"))));
        for wrong in [None, Some("Bearer"), Some("Bearer other"), Some(&*basic("root:secret")), Some(&*basic("admin:"))]
        {
            assert!(!token.authorizes(wrong), "{wrong:?}");
        }
    }
}
