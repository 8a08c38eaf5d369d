//! Private keys and X.509 certificates, built as Go's `crypto/x509` builds them. All from the seed.

use std::net::IpAddr;

use aws_lc_rs::digest;
use ed25519_dalek::Signer as _;
use rand_chacha::{ChaCha20Rng, rand_core::RngCore};
use rsa::{
    RsaPrivateKey,
    pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, EncodeRsaPublicKey},
    pkcs8::DecodePrivateKey,
    signature::SignatureEncoding,
    traits::PublicKeyParts,
};

use crate::{
    der::{all, bits, oid, read, seq, tlv, uint},
    functions::encode::{from_pem, pem},
    prime::{EXPONENT, prime},
};

const RSA: &[u64] = &[1, 2, 840, 113549, 1, 1, 1];
const RSA_SHA256: &[u64] = &[1, 2, 840, 113549, 1, 1, 11];
const EC: &[u64] = &[1, 2, 840, 10045, 2, 1];
const P256: &[u64] = &[1, 2, 840, 10045, 3, 1, 7];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const ED25519: &[u64] = &[1, 3, 101, 112];

/// A private key.
pub enum Key {
    Rsa(Box<RsaPrivateKey>),
    Ec(Box<p256::ecdsa::SigningKey>),
    Ed(Box<ed25519_dalek::SigningKey>),
    Dsa(Vec<u8>),
}

impl Key {
    pub fn rsa(rng: &mut ChaCha20Rng, bits: usize) -> Result<Self, String> {
        // Both with their two highest bits set, so that the product has exactly as many bits as are wanted.
        let (p, q) = (prime(rng, bits - bits / 2), prime(rng, bits / 2));
        let key =
            RsaPrivateKey::from_p_q(p, q, EXPONENT.into()).map_err(|e| format!("error generating rsa key: {e}"))?;
        Ok(Self::Rsa(Box::new(key)))
    }

    pub fn ec(rng: &mut ChaCha20Rng) -> Self {
        Self::Ec(Box::new(p256::ecdsa::SigningKey::random(rng)))
    }

    pub fn ed(rng: &mut ChaCha20Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Self::Ed(Box::new(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    pub fn dsa(rng: &mut ChaCha20Rng) -> Self {
        let components = dsa::Components::generate(rng, dsa::KeySize::DSA_2048_256);
        let key = dsa::SigningKey::generate(rng, components);
        let public = key.verifying_key();
        let number = |n: &dsa::BigUint| uint(&n.to_bytes_be());
        let c = public.components();
        let parts = [uint(&[0]), number(c.p()), number(c.q()), number(c.g()), number(public.y()), number(key.x())];
        Self::Dsa(seq(&parts))
    }

    /// As Sprig writes it: each kind in its oldest form.
    pub fn pem(&self) -> Result<String, String> {
        Ok(match self {
            Self::Rsa(key) => {
                let der = key.to_pkcs1_der().map_err(|e| e.to_string())?;
                pem("RSA PRIVATE KEY", der.as_bytes())
            }
            Self::Ec(key) => {
                let public = key.verifying_key().to_encoded_point(false);
                let der = seq(&[
                    uint(&[1]),
                    tlv(4, &key.to_bytes()),
                    tlv(0xa0, &oid(P256)),
                    tlv(0xa1, &bits(public.as_bytes())),
                ]);
                pem("EC PRIVATE KEY", &der)
            }
            Self::Ed(key) => {
                let der = seq(&[uint(&[0]), seq(&[oid(ED25519)]), tlv(4, &tlv(4, key.as_bytes()))]);
                pem("PRIVATE KEY", &der)
            }
            Self::Dsa(der) => pem("DSA PRIVATE KEY", der),
        })
    }

    pub fn from_pem(text: &str) -> Result<Self, String> {
        let (label, der) = from_pem(text).ok_or("no PEM data in input")?;
        let rsa = |key| Self::Rsa(Box::new(key));
        match label.as_str() {
            "PRIVATE KEY" => {
                if let Ok(key) = RsaPrivateKey::from_pkcs8_der(&der) {
                    return Ok(rsa(key));
                }
                if let Ok(key) = p256::SecretKey::from_pkcs8_der(&der) {
                    return Ok(Self::Ec(Box::new(key.into())));
                }
                let key = ed25519_dalek::SigningKey::from_pkcs8_der(&der);
                key.map(|key| Self::Ed(Box::new(key))).map_err(|e| format!("decoding PEM as PKCS#8: {e}"))
            }
            "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der)
                .map(rsa)
                .map_err(|e| format!("parsing RSA private key from PEM: {e}")),
            "EC PRIVATE KEY" => p256::SecretKey::from_sec1_der(&der)
                .map(|key| Self::Ec(Box::new(key.into())))
                .map_err(|e| format!("parsing EC private key from PEM: {e}")),
            "DSA PRIVATE KEY" => Ok(Self::Dsa(der)),
            other => match other.strip_suffix(" PRIVATE KEY") {
                Some(kind) => Err(format!("invalid private key type {kind}")),
                None => Err(format!("no private key data in PEM block of type {other}")),
            },
        }
    }

    /// The key bits and the whole `SubjectPublicKeyInfo`.
    fn public(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (algorithm, key) = match self {
            Self::Rsa(key) => {
                let der = key.to_public_key().to_pkcs1_der().map_err(|e| e.to_string())?;
                (seq(&[oid(RSA), tlv(5, &[])]), der.as_bytes().to_vec())
            }
            Self::Ec(key) => {
                (seq(&[oid(EC), oid(P256)]), key.verifying_key().to_encoded_point(false).as_bytes().to_vec())
            }
            Self::Ed(key) => (seq(&[oid(ED25519)]), key.verifying_key().to_bytes().to_vec()),
            Self::Dsa(_) => return Err("x509: unsupported public key type: *dsa.PublicKey".to_owned()),
        };
        let info = seq(&[algorithm, bits(&key)]);
        Ok((key, info))
    }

    fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => seq(&[oid(RSA_SHA256), tlv(5, &[])]),
            Self::Ec(_) => seq(&[oid(ECDSA_SHA256)]),
            Self::Ed(_) | Self::Dsa(_) => seq(&[oid(ED25519)]),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        Ok(match self {
            Self::Rsa(key) if key.size() < 64 => return Err("the key is too small to sign with".to_owned()),
            Self::Rsa(key) => {
                let signer = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new((**key).clone());
                signer.try_sign(message).map_err(|e| e.to_string())?.to_vec()
            }
            Self::Ec(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message).map_err(|e| e.to_string())?;
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed(key) => ed25519_dalek::Signer::sign(&**key, message).to_bytes().to_vec(),
            Self::Dsa(_) => return Err("x509: certificate private key does not implement crypto.Signer".to_owned()),
        })
    }
}

/// What a certificate says.
pub struct Request<'r> {
    pub name: &'r str,
    pub ips: Vec<IpAddr>,
    pub dns: Vec<String>,
    /// Seconds since 1970.
    pub from: i64,
    pub days: i64,
    pub authority: bool,
    pub serial: [u8; 16],
}

/// Who signs: its name and key identifier, out of its certificate.
pub struct Issuer {
    name: Vec<u8>,
    key_id: Vec<u8>,
}

impl Issuer {
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let (_, der) = from_pem(text).ok_or("unable to decode certificate")?;
        Self::read(&der).ok_or_else(|| "x509: malformed certificate".to_owned())
    }

    fn read(der: &[u8]) -> Option<Self> {
        let (_, outer, _, _) = read(der)?;
        let (_, body, _, _) = read(outer)?;
        let fields = all(body)?;
        let first = usize::from(fields.first()?.0 == 0xa0);
        let name = fields.get(first + 4)?.2.to_vec();
        let mut key_id = Vec::new();
        if let Some((_, extensions, _)) = fields.iter().find(|(tag, ..)| *tag == 0xa3) {
            let (_, list, _, _) = read(extensions)?;
            for (_, extension, _) in all(list)? {
                let parts = all(extension)?;
                if parts.first()?.2 == oid(&[2, 5, 29, 14]) {
                    key_id = read(parts.last()?.1)?.1.to_vec();
                }
            }
        }
        Some(Self { name, key_id })
    }
}

fn text(value: &str) -> Vec<u8> {
    let printable = |b: u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b);
    tlv(if value.bytes().all(printable) { 19 } else { 12 }, value.as_bytes())
}

fn time(second: i64) -> Result<Vec<u8>, String> {
    let time = jiff::Timestamp::from_second(second).map_err(|_| "the time is out of range".to_owned())?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    Ok(match time.year() {
        1950..=2049 => tlv(23, time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()),
        _ => tlv(24, time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()),
    })
}

/// Signs a certificate; without an issuer, by itself. In PEM.
pub fn issue(request: &Request<'_>, key: &Key, issuer: Option<(&Issuer, &Key)>) -> Result<String, String> {
    let creating = |message: String| format!("error creating certificate: {message}");
    let (public, info) = key.public().map_err(creating)?;
    let signer = issuer.map_or(key, |(_, signer)| signer);
    let subject = match request.name {
        "" => seq(&[]),
        name => seq(&[tlv(0x31, &seq(&[oid(&[2, 5, 4, 3]), text(name)]))]),
    };
    let issuer_name = issuer.map_or_else(|| subject.clone(), |(issuer, _)| issuer.name.clone());
    let extension = |id: &[u64], critical: bool, value: Vec<u8>| {
        let flag = if critical { tlv(1, &[0xff]) } else { Vec::new() };
        seq(&[oid(id), flag, tlv(4, &value)])
    };
    let usage: &[u8] = if request.authority { &[2, 0xa4] } else { &[5, 0xa0] };
    let purpose = |last| oid(&[1, 3, 6, 1, 5, 5, 7, 3, last]);
    let constraint = if request.authority { seq(&[tlv(1, &[0xff])]) } else { seq(&[]) };
    let mut extensions = vec![
        extension(&[2, 5, 29, 15], true, tlv(3, usage)),
        extension(&[2, 5, 29, 37], false, seq(&[purpose(1), purpose(2)])),
        extension(&[2, 5, 29, 19], true, constraint),
    ];
    if request.authority {
        let id = digest::digest(&digest::SHA256, &public);
        extensions.push(extension(&[2, 5, 29, 14], false, tlv(4, &id.as_ref()[..20])));
    }
    if let Some((issuer, _)) = issuer.filter(|(i, _)| i.name != subject && !i.key_id.is_empty()) {
        extensions.push(extension(&[2, 5, 29, 35], false, seq(&[tlv(0x80, &issuer.key_id)])));
    }
    if !request.dns.is_empty() || !request.ips.is_empty() {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for name in &request.dns {
            if !name.is_ascii() {
                let name = crate::quote::quote_str(name);
                return Err(creating(format!("x509: {name} cannot be encoded as an IA5String")));
            }
            names.push(tlv(0x82, name.as_bytes()));
        }
        names.extend(request.ips.iter().map(|ip| match ip.to_canonical() {
            IpAddr::V4(ip) => tlv(0x87, &ip.octets()),
            IpAddr::V6(ip) => tlv(0x87, &ip.octets()),
        }));
        extensions.push(extension(&[2, 5, 29, 17], request.name.is_empty(), seq(&names)));
    }
    let until = request.from.saturating_add(request.days.saturating_mul(86400));
    let body = seq(&[
        tlv(0xa0, &uint(&[2])),
        uint(&request.serial),
        signer.algorithm(),
        issuer_name,
        seq(&[time(request.from).map_err(creating)?, time(until).map_err(creating)?]),
        subject,
        info,
        tlv(0xa3, &seq(&extensions)),
    ]);
    let signature = signer.sign(&body).map_err(creating)?;
    Ok(pem("CERTIFICATE", &seq(&[body, signer.algorithm(), bits(&signature)])))
}
