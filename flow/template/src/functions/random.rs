//! Random things. Each place in a template draws from a stream of its own, made from the seed: rendering again gives the
//! same, and a change elsewhere changes nothing here.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use super::{Fail, Function, Outcome, bytes, encode, fixed, int};
use crate::{
    render::Session,
    value::{Param, Value},
};

use Param::{Int, Str};

pub const TABLE: &[Function] = &[
    fixed("randAlphaNum", &[Int], |s, v| chars(s, v, |c| c.is_ascii_alphanumeric())).drawing(),
    fixed("randAlpha", &[Int], |s, v| chars(s, v, |c| c.is_ascii_alphabetic())).drawing(),
    fixed("randNumeric", &[Int], |s, v| chars(s, v, |c| c.is_ascii_digit())).drawing(),
    fixed("randAscii", &[Int], |s, v| chars(s, v, |c| (b' '..127).contains(c))).drawing(),
    fixed("randBytes", &[Int], |s, v| {
        let count = usize::try_from(int(v, 0)).map_err(|_| Fail::from("runtime error: makeslice: len out of range"))?;
        s.room(count.saturating_mul(2))?;
        let mut buffer = vec![0; count];
        stream(s).fill_bytes(&mut buffer);
        Ok(Value::str(encode::base64(&buffer)))
    })
    .drawing(),
    fixed("randInt", &[Int, Int], |s, v| {
        let (low, high) = (int(v, 0), int(v, 1));
        let span = high.wrapping_sub(low);
        if span <= 0 {
            return Err(Fail::from("invalid argument to Intn"));
        }
        let n = below(&mut stream(s), span as u64);
        Ok(Value::int(low.wrapping_add(n as i64)))
    })
    .drawing(),
    fixed("shuffle", &[Str], |s, v| {
        let mut chars: Vec<char> = String::from_utf8_lossy(bytes(v, 0)).chars().collect();
        let mut rng = stream(s);
        for i in (1..chars.len()).rev() {
            let j = below(&mut rng, i as u64 + 1) as usize;
            chars.swap(i, j);
        }
        Ok(Value::str(chars.into_iter().collect::<String>()))
    })
    .drawing(),
    fixed("uuidv4", &[], |s, _| {
        let mut id = [0; 16];
        stream(s).fill_bytes(&mut id);
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        let hex = encode::hex(&id);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Value::str(parts.join("-")))
    })
    .drawing(),
];

/// The stream of the call that is being carried out; every call at the same place has its own.
pub fn stream(session: &mut Session<'_>) -> ChaCha20Rng {
    let place = session.place.clone();
    let count = session.draws.entry(place.clone()).or_insert(0);
    *count += 1;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(&session.options.seed.to_le_bytes());
    context.update(&count.to_le_bytes());
    context.update(&(place.1 as u64).to_le_bytes());
    context.update(place.0.as_bytes());
    let mut seed = [0; 32];
    seed.copy_from_slice(context.finish().as_ref());
    ChaCha20Rng::from_seed(seed)
}

/// Evenly below `bound`.
fn below(rng: &mut ChaCha20Rng, bound: u64) -> u64 {
    let zone = u64::MAX - u64::MAX % bound.max(1);
    loop {
        let n = rng.next_u64();
        if n < zone {
            return n % bound.max(1);
        }
    }
}

fn chars(s: &mut Session<'_>, v: &[Value], ok: fn(&u8) -> bool) -> Outcome {
    // Sprig gives nothing for a count that makes no sense.
    let count = usize::try_from(int(v, 0)).unwrap_or(0);
    s.room(count)?;
    let alphabet: Vec<u8> = (0u8..128).filter(ok).collect();
    let mut rng = stream(s);
    let picked: Vec<u8> = (0..count).map(|_| alphabet[below(&mut rng, alphabet.len() as u64) as usize]).collect();
    Ok(Value::str(picked))
}
