//! Primes for RSA keys, from a seeded generator: candidates side by side are sieved first, and what is left is tested as Miller and
//! Rabin do. FIPS 186-5, appendix A.1.3 and table B.1.

use rand_chacha::{ChaCha20Rng, rand_core::RngCore};
use rsa::BigUint;

/// The public exponent of all keys.
pub const EXPONENT: u32 = 65_537;

/// Small primes that candidates are sieved by are below this.
const SIEVE: u32 = 1 << 13;

/// Odd numbers that are looked at from one random start.
const WINDOW: u32 = 1 << 12;

/// Rounds of Miller and Rabin: for random candidates of 512 bits and more they leave a chance of 2^-100 at most.
const ROUNDS: usize = 8;

/// A prime of exactly `bits` bits (at least 128), whose two highest are set, and which is not 1 modulo the public exponent.
pub fn prime(rng: &mut ChaCha20Rng, bits: usize) -> BigUint {
    let small = small_primes();
    loop {
        let start = candidate(rng, bits);
        let mut taken = vec![false; WINDOW as usize];
        for &prime in &small {
            // start + 2k = 0 (mod prime) for k = -start/2, and from there for each prime-th.
            let rest = remainder(&start, prime);
            let first = if rest == 0 {
                0
            } else {
                let away = prime - rest;
                if away.is_multiple_of(2) { away / 2 } else { (away + prime) / 2 }
            };
            taken.iter_mut().skip(first as usize).step_by(prime as usize).for_each(|taken| *taken = true);
        }
        let away = (EXPONENT - remainder(&start, EXPONENT)) % EXPONENT;
        for (k, _) in (0..WINDOW).zip(&taken).filter(|(_, taken)| !**taken) {
            let number = &start + 2 * k;
            if 2 * k % EXPONENT != (away + 1) % EXPONENT && number.bits() == bits && is_prime(rng, &number) {
                return number;
            }
        }
    }
}

/// A random odd number with its two highest bits set.
fn candidate(rng: &mut ChaCha20Rng, bits: usize) -> BigUint {
    let mut bytes = vec![0; bits.div_ceil(8)];
    rng.fill_bytes(&mut bytes);
    let over = 8 * bytes.len() - bits;
    let mut number = BigUint::from_bytes_be(&bytes) >> over;
    let two = BigUint::from(3u32) << (bits - 2);
    number = number | two | BigUint::from(1u32);
    number
}

fn remainder(number: &BigUint, by: u32) -> u32 {
    // Smaller than `by`, so that it fits.
    (number % by).to_bytes_be().iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The odd primes below [`SIEVE`].
fn small_primes() -> Vec<u32> {
    let mut composite = vec![false; SIEVE as usize];
    let mut primes = Vec::new();
    for n in (3..SIEVE).step_by(2) {
        if !composite[n as usize] {
            primes.push(n);
            (n * n..SIEVE).step_by(2 * n as usize).for_each(|multiple| composite[multiple as usize] = true);
        }
    }
    primes
}

/// Whether an odd number above 3 is a prime: base 2 first, which nearly all composites fail, then random ones.
fn is_prime(rng: &mut ChaCha20Rng, number: &BigUint) -> bool {
    let one = BigUint::from(1u32);
    let less = number - &one;
    let twos = less.trailing_zeros().unwrap_or(0);
    let odd = &less >> twos;
    let passes = |base: &BigUint| {
        let mut power = base.modpow(&odd, number);
        if power == one || power == less {
            return true;
        }
        for _ in 1..twos {
            power = &power * &power % number;
            if power == less {
                return true;
            }
        }
        false
    };
    passes(&BigUint::from(2u32))
        && (1..ROUNDS).all(|_| {
            let mut bytes = vec![0; number.bits().div_ceil(8)];
            rng.fill_bytes(&mut bytes);
            // Two up to number - 2.
            let base = BigUint::from_bytes_be(&bytes) % (number - 3u32) + 2u32;
            passes(&base)
        })
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn numbers_are_told_apart() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut is = |text: &[u8]| is_prime(&mut rng, &BigUint::parse_bytes(text, 10).unwrap());
        // Two primes, a Carmichael number, a strong pseudoprime to base 2, a product of two primes of one length.
        assert!(is(b"170141183460469231731687303715884105727"));
        assert!(is(b"65537"));
        assert!(!is(b"561"));
        assert!(!is(b"2047"));
        assert!(!is(b"340282366920938460843936948965011886881"));
        let small = small_primes();
        assert_eq!((small.len(), small[0], small[small.len() - 1]), (1027, 3, 8191));
    }

    #[test]
    fn primes_are_as_wanted_and_come_from_the_seed() {
        for bits in [128, 131, 512] {
            let draw = |seed| prime(&mut ChaCha20Rng::seed_from_u64(seed), bits);
            let (a, b) = (draw(1), draw(2));
            assert_eq!(a, draw(1));
            assert_ne!(a, b);
            for number in [a, b] {
                assert_eq!(number.bits(), bits);
                assert_eq!(&number >> (bits - 2), BigUint::from(3u32));
                assert_ne!(remainder(&number, EXPONENT), 1);
                // An outside opinion: Fermat's test to a base that was not used.
                let less = &number - 1u32;
                assert_eq!(BigUint::from(7u32).modpow(&less, &number), BigUint::from(1u32));
            }
        }
    }
}
