//! Short-lived tokens, as Docker's token specification has them: JSON web tokens that name what their bearer may do. They are signed with a
//! key that only this process has.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use records::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result, registry::robots::Verb};

/// How long a token holds. Clients take at least a minute for granted.
pub const LIFE_S: i64 = 300;
/// Longer ones are none of ours.
const MAX: usize = 16 << 10;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who: `admin`, a robot's user name, or nobody.
    pub sub: String,
    /// Until when, in seconds.
    pub exp: i64,
    pub access: Vec<Access>,
    #[serde(default)]
    pub scanner: bool,
}

/// What may be done in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub r#type: String,
    pub name: String,
    pub actions: Vec<Verb>,
    /// What was asked for and is not given, so that it can be said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Verb>,
}

/// Signs tokens and knows its own.
pub struct Signer(hmac::Key);

impl Signer {
    pub fn new() -> Result<Self> {
        let none = |e| Error::new(Kind::Io, "no random numbers are to be had").caused(e);
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(none)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    pub fn sign(&self, claims: &Claims) -> Result<String> {
        let claims =
            serde_json::to_vec(claims).map_err(|e| Error::new(Kind::Malformed, "cannot write a token").caused(e))?;
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&self.0, text.as_bytes());
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// What one of our tokens says, while it holds.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        if token.len() > MAX {
            return None;
        }
        let (text, tag) = token.rsplit_once('.')?;
        hmac::verify(&self.0, text.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split_once('.')?.1).ok()?).ok()?;
        Some(claims).filter(|claims| claims.exp > now.as_second())
    }
}

/// A scope such as `repository:team/app:pull,push`; what is no scope of a repository gives none.
pub fn parse_scope(text: &str) -> Option<(String, Vec<Verb>)> {
    let rest = text.strip_prefix("repository:")?;
    let (name, actions) = rest.rsplit_once(':')?;
    crate::reference::check_repository(name).ok()?;
    let mut verbs = Vec::new();
    for action in actions.split(',') {
        match action {
            "pull" => verbs.push(Verb::Pull),
            "push" => verbs.push(Verb::Push),
            "delete" => verbs.push(Verb::Delete),
            "*" => verbs.extend([Verb::Pull, Verb::Push, Verb::Delete]),
            _ => {}
        }
    }
    Some((name.to_owned(), verbs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_a_while_and_only_as_it_is() {
        let signer = Signer::new().unwrap();
        let now = Timestamp::from_second(1000).unwrap();
        let access = vec![Access {
            r#type: "repository".into(),
            name: "a/b".into(),
            actions: vec![Verb::Pull],
            refused: vec![],
        }];
        let claims = Claims { sub: "a+ci".into(), exp: 1300, access, scanner: false };
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify(&token, now), Some(claims));
        assert_eq!(signer.verify(&token, Timestamp::from_second(1300).unwrap()), None);
        assert_eq!(Signer::new().unwrap().verify(&token, now), None, "another key");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last digit of base64 has bits that stand for nothing.
            assert!(at + 1 == token.len() || signer.verify(&changed, now).is_none(), "{changed}");
        }
        for bad in ["", ".", "a.b", "a.b.c"] {
            assert_eq!(signer.verify(bad, now), None);
        }
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode("{}"));
        assert_eq!(signer.verify(&none, now), None);
    }

    #[test]
    fn scopes_are_read() {
        let scope = parse_scope("repository:a/b:pull,push,other").unwrap();
        assert_eq!(scope, ("a/b".into(), vec![Verb::Pull, Verb::Push]));
        assert_eq!(parse_scope("repository:a:*").unwrap().1.len(), 3);
        for bad in ["registry:catalog:*", "repository:A:pull", "repository:a", ""] {
            assert_eq!(parse_scope(bad), None, "{bad}");
        }
    }
}
