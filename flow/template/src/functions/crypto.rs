//! Passwords, keys, certificates and AES.

use std::net::IpAddr;

use aws_lc_rs::{
    cipher::{
        AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    hmac,
    iv::FixedLength,
};
use rand_chacha::rand_core::RngCore;

use super::{Fail, Function, Outcome, bytes, encode, fixed, int, random::stream, string};
use crate::{
    certificate::{Issuer, Key, Request, issue},
    render::Session,
    value::{List, Object, Param, Value},
};

use Param::{Certificate, Int, Str, Uint32};

/// Work that a key, a hash or a derivation stands for.
const SLOW: u64 = 3_000_000;

pub const TABLE: &[Function] = &[
    fixed("bcrypt", &[Str], |s, v| Ok(Value::str(bcrypt(s, bytes(v, 0))?))).drawing(),
    fixed("htpasswd", &[Str, Str], |s, v| {
        let user = string(v, 0);
        if user.contains(':') {
            return Ok(Value::str(format!("invalid username: {user}")));
        }
        Ok(Value::str(format!("{user}:{}", bcrypt(s, bytes(v, 1))?)))
    })
    .drawing(),
    fixed("derivePassword", &[Uint32, Str, Str, Str, Str], derive_password),
    fixed("genPrivateKey", &[Str], |s, v| {
        s.charge(SLOW * 4)?;
        let mut rng = stream(s);
        let key = match bytes(v, 0) {
            b"" | b"rsa" => Key::rsa(&mut rng, 4096)?,
            b"dsa" => Key::dsa(&mut rng),
            b"ecdsa" => Key::ec(&mut rng),
            b"ed25519" => Key::ed(&mut rng),
            _ => return Ok(Value::str(format!("Unknown type {}", string(v, 0)))),
        };
        Ok(Value::str(key.pem()?))
    })
    .drawing(),
    fixed("genCA", &[Str, Int], |s, v| certify(s, v, Plan::AUTHORITY, 1)).drawing(),
    fixed("genCAWithKey", &[Str, Int, Str], |s, v| certify(s, v, Plan::AUTHORITY.keyed(2), 1)).drawing(),
    fixed("genSelfSignedCert", &[Str, Param::List, Param::List, Int], |s, v| certify(s, v, Plan::SELF, 3)).drawing(),
    fixed("genSelfSignedCertWithKey", &[Str, Param::List, Param::List, Int, Str], |s, v| {
        certify(s, v, Plan::SELF.keyed(4), 3)
    })
    .drawing(),
    fixed("genSignedCert", &[Str, Param::List, Param::List, Int, Certificate], |s, v| certify(s, v, Plan::SIGNED, 3))
        .drawing(),
    fixed("genSignedCertWithKey", &[Str, Param::List, Param::List, Int, Certificate, Str], |s, v| {
        certify(s, v, Plan::SIGNED.keyed(5), 3)
    })
    .drawing(),
    fixed("buildCustomCert", &[Str, Str], |_, v| {
        let cert = encode::from_base64(bytes(v, 0)).map_err(|_| "unable to decode base64 certificate")?;
        let key = encode::from_base64(bytes(v, 1)).map_err(|_| "unable to decode base64 private key")?;
        let (cert, key) = (String::from_utf8_lossy(&cert).into_owned(), String::from_utf8_lossy(&key).into_owned());
        if encode::from_pem(&cert).is_none() {
            return Err(Fail::from("unable to decode certificate"));
        }
        Issuer::from_pem(&cert).map_err(|e| format!("error parsing certificate: decodedCert.Bytes: {e}"))?;
        Key::from_pem(&key).map_err(|e| format!("error parsing private key: {e}"))?;
        Ok(Value::object(Pair { cert, key }))
    }),
    fixed("encryptAES", &[Str, Str], |s, v| {
        if bytes(v, 1).is_empty() {
            return Ok(Value::str(""));
        }
        let mut iv = [0u8; 16];
        stream(s).fill_bytes(&mut iv);
        s.room(bytes(v, 1).len().saturating_mul(2))?;
        let wrong = |_| Fail::from("crypto/aes: cannot encrypt");
        let key = UnboundCipherKey::new(&AES_256, &aes_key(bytes(v, 0))).map_err(wrong)?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(wrong)?;
        let mut data = bytes(v, 1).to_vec();
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        key.less_safe_encrypt(&mut data, context).map_err(wrong)?;
        Ok(Value::str(encode::base64(&[&iv[..], &data].concat())))
    })
    .drawing(),
    fixed("decryptAES", &[Str, Str], |_, v| {
        if bytes(v, 1).is_empty() {
            return Ok(Value::str(""));
        }
        let mut data = encode::from_base64(bytes(v, 1))?;
        if data.len() < 16 {
            return Err(Fail::Message(format!(
                "runtime error: slice bounds out of range [:16] with capacity {}",
                data.capacity()
            )));
        }
        let mut iv = [0u8; 16];
        iv.copy_from_slice(&data[..16]);
        if data.len() % 16 != 0 {
            return Err(Fail::from("crypto/cipher: input not full blocks"));
        }
        let wrong = |_| Fail::from("the text was not encrypted with this password");
        let key = UnboundCipherKey::new(&AES_256, &aes_key(bytes(v, 0))).map_err(wrong)?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(wrong)?;
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let plain = key.decrypt(&mut data[16..], context).map_err(wrong)?;
        Ok(Value::str(&*plain))
    }),
];

fn aes_key(password: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let length = password.len().min(32);
    key[..length].copy_from_slice(&password[..length]);
    key
}

fn bcrypt(s: &mut Session<'_>, password: &[u8]) -> Result<String, Fail> {
    s.charge(SLOW)?;
    if password.len() > 72 {
        return Ok("failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes".to_owned());
    }
    let mut salt = [0; 16];
    stream(s).fill_bytes(&mut salt);
    match bcrypt::hash_with_salt(password, 10, salt) {
        Ok(parts) => Ok(parts.format_for_version(bcrypt::Version::TwoA)),
        Err(e) => Ok(format!("failed to encrypt string with bcrypt: {e}")),
    }
}

/// The patterns of the Master Password algorithm.
const PATTERNS: &[(&str, &[&str])] = &[
    ("maximum", &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"]),
    (
        "long",
        &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
    ),
    ("medium", &["CvcnoCvc", "CvcCvcno"]),
    ("short", &["Cvcn"]),
    ("basic", &["aaanaaan", "aannaaan", "aaannaaa"]),
    ("pin", &["nnnn"]),
];

fn letters(class: u8) -> &'static str {
    match class {
        b'V' => "AEIOU",
        b'C' => "BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => "aeiou",
        b'c' => "bcdfghjklmnpqrstvwxyz",
        b'A' => "AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        b'a' => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => "0123456789",
        b'o' => "@&%?,=[]_:-+*$#!'^~;()/.",
        _ => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

fn derive_password(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    const SCOPE: &[u8] = b"com.lyndir.masterpassword";
    let counter = match &v[0] {
        Value::Uint(_, n) => *n as u32,
        _ => 0,
    };
    let (kind, password, user, site) = (string(v, 1), bytes(v, 2), bytes(v, 3), bytes(v, 4));
    let Some((_, patterns)) = PATTERNS.iter().find(|(name, _)| *name == kind) else {
        return Ok(Value::str(format!("cannot find password template {kind}")));
    };
    s.charge(SLOW * 2)?;
    let salt = [SCOPE, &(user.len() as u32).to_be_bytes(), user].concat();
    let mut key = [0u8; 64];
    let params = scrypt::Params::new(15, 8, 2, 64).map_err(|e| format!("failed to derive password: {e}"))?;
    scrypt::scrypt(password, &salt, &params, &mut key).map_err(|e| format!("failed to derive password: {e}"))?;
    let message = [SCOPE, &(site.len() as u32).to_be_bytes(), site, &counter.to_be_bytes()].concat();
    let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
    let seed = seed.as_ref();
    let pattern = patterns[usize::from(seed[0]) % patterns.len()];
    let chars = pattern.bytes().zip(&seed[1..]).map(|(class, byte)| {
        let letters = letters(class).as_bytes();
        letters[usize::from(*byte) % letters.len()]
    });
    Ok(Value::str(chars.collect::<Vec<u8>>()))
}

/// A certificate and its key, as Sprig's functions hand them to each other.
struct Pair {
    cert: String,
    key: String,
}

impl Object for Pair {
    fn type_name(&self) -> &str {
        "sprig.certificate"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Cert" => Some(Value::str(self.cert.as_str())),
            "Key" => Some(Value::str(self.key.as_str())),
            _ => None,
        }
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![("Cert", Value::str(self.cert.as_str())), ("Key", Value::str(self.key.as_str()))]
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Which kind of certificate, and where its key is among the arguments if it is given.
#[derive(Clone, Copy)]
struct Plan {
    authority: bool,
    signed: bool,
    key: Option<usize>,
}

impl Plan {
    const AUTHORITY: Self = Self { authority: true, signed: false, key: None };
    const SELF: Self = Self { authority: false, signed: false, key: None };
    const SIGNED: Self = Self { authority: false, signed: true, key: None };

    const fn keyed(self, at: usize) -> Self {
        Self { key: Some(at), ..self }
    }
}

fn certify(s: &mut Session<'_>, v: &[Value], plan: Plan, days: usize) -> Outcome {
    s.charge(SLOW)?;
    let mut rng = stream(s);
    let key = match plan.key {
        Some(at) => Key::from_pem(&string(v, at)).map_err(|e| format!("parsing private key: {e}"))?,
        None => Key::rsa(&mut rng, 2048)?,
    };
    let issuer = if plan.signed { Some(signer(&v[4])?) } else { None };
    let names = |at: usize| match v.get(at) {
        Some(Value::List(list)) if !plan.authority => list.clone(),
        _ => List::new(Vec::new()),
    };
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in names(1).iter() {
        let shown = crate::printf::plain(ip);
        if !matches!(ip, Value::Str(_)) {
            return Err(Fail::Message(format!("error parsing ip: {shown} is not a string")));
        }
        ips.push(shown.parse().map_err(|_| format!("error parsing ip: {shown}"))?);
    }
    let mut dns = Vec::new();
    for name in names(2).iter() {
        let shown = crate::printf::plain(name);
        if !matches!(name, Value::Str(_)) {
            return Err(Fail::Message(format!("error processing alternate dns name: {shown} is not a string")));
        }
        dns.push(shown);
    }
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    let name = string(v, 0);
    let request = Request {
        name: &name,
        ips,
        dns,
        from: s.options.now.as_second(),
        days: int(v, days),
        authority: plan.authority,
        serial,
    };
    let cert = issue(&request, &key, issuer.as_ref().map(|(issuer, key)| (issuer, key)))?;
    Ok(Value::object(Pair { cert, key: key.pem()? }))
}

fn signer(value: &Value) -> Result<(Issuer, Key), Fail> {
    let Value::Object(object) = value else {
        return Err(Fail::from("unable to decode certificate"));
    };
    let Some(pair) = object.as_any().downcast_ref::<Pair>() else {
        return Err(Fail::from("unable to decode certificate"));
    };
    if encode::from_pem(&pair.cert).is_none() {
        return Err(Fail::from("unable to decode certificate"));
    }
    let issuer =
        Issuer::from_pem(&pair.cert).map_err(|e| format!("error parsing certificate: decodedSignerCert.Bytes: {e}"))?;
    let key = Key::from_pem(&pair.key).map_err(|e| format!("error parsing private key: {e}"))?;
    Ok((issuer, key))
}
