//! Defaults, types, encodings and checksums.

use super::{Fail, Function, bytes, cast, encode, fixed, list, open};
use crate::value::{Param, Value};

use Param::{Any, Bool, Str};

pub const TABLE: &[Function] = &[
    open("default", &[Any], Any, |_, v| {
        Ok(match v.get(1) {
            Some(given) if !cast::empty(given) => given.clone(),
            _ => v[0].clone(),
        })
    }),
    fixed("empty", &[Any], |_, v| Ok(Value::Bool(cast::empty(&v[0])))),
    open("coalesce", &[], Any, |_, v| Ok(v.iter().find(|v| !cast::empty(v)).cloned().unwrap_or_default())),
    open("all", &[], Any, |_, v| Ok(Value::Bool(!v.iter().any(cast::empty)))),
    open("any", &[], Any, |_, v| Ok(Value::Bool(v.iter().any(|v| !cast::empty(v))))),
    fixed("ternary", &[Any, Any, Bool], |_, v| Ok(v[usize::from(!v[2].truth())].clone())),
    fixed("typeOf", &[Any], |_, v| Ok(Value::str(v[0].type_name()))),
    fixed("typeIs", &[Str, Any], |_, v| Ok(Value::Bool(bytes(v, 0) == v[1].type_name().as_bytes()))),
    fixed("typeIsLike", &[Str, Any], |_, v| {
        let name = v[1].type_name();
        Ok(Value::Bool(
            bytes(v, 0) == name.strip_prefix('*').unwrap_or(&name).as_bytes() || bytes(v, 0) == name.as_bytes(),
        ))
    }),
    fixed("kindOf", &[Any], |_, v| Ok(Value::str(v[0].kind_name()))),
    fixed("kindIs", &[Str, Any], |_, v| Ok(Value::Bool(bytes(v, 0) == v[1].kind_name().as_bytes()))),
    fixed("deepEqual", &[Any, Any], |s, v| list::same(s, &v[0], &v[1]).map(Value::Bool)),
    fixed("b64enc", &[Str], |s, v| {
        s.room(bytes(v, 0).len() * 4 / 3 + 4)?;
        Ok(Value::str(encode::base64(bytes(v, 0))))
    }),
    fixed("b64dec", &[Str], |_, v| {
        Ok(match encode::from_base64(bytes(v, 0)) {
            Ok(decoded) => Value::str(decoded),
            Err(wrong) => Value::str(wrong),
        })
    }),
    fixed("b32enc", &[Str], |s, v| {
        s.room(bytes(v, 0).len() * 8 / 5 + 8)?;
        Ok(Value::str(encode::base32(bytes(v, 0))))
    }),
    fixed("b32dec", &[Str], |_, v| {
        Ok(match encode::from_base32(bytes(v, 0)) {
            Ok(decoded) => Value::str(decoded),
            Err(wrong) => Value::str(wrong),
        })
    }),
    fixed("sha1sum", &[Str], |s, v| digest(s, &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes(v, 0))),
    fixed("sha256sum", &[Str], |s, v| digest(s, &aws_lc_rs::digest::SHA256, bytes(v, 0))),
    fixed("sha512sum", &[Str], |s, v| digest(s, &aws_lc_rs::digest::SHA512, bytes(v, 0))),
    fixed("adler32sum", &[Str], |_, v| {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in bytes(v, 0) {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        Ok(Value::str((b << 16 | a).to_string()))
    }),
];

fn digest(
    s: &mut crate::render::Session<'_>,
    algorithm: &'static aws_lc_rs::digest::Algorithm,
    data: &[u8],
) -> Result<Value, Fail> {
    s.charge(data.len() as u64 / 16)?;
    Ok(Value::str(encode::hex(aws_lc_rs::digest::digest(algorithm, data).as_ref())))
}
