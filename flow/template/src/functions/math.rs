//! Arithmetic: integers as `int64`, decimals exactly.

use num_bigint::{BigInt, Sign};

use super::{Fail, Function, Outcome, cast, fixed, int, open};
use crate::{
    number::{parse_int, shortest},
    printf,
    render::Session,
    value::{Element, List, Param, Value},
};

use Param::{Any, Float, Int};

pub const TABLE: &[Function] = &[
    fixed("add1", &[Any], |_, v| Ok(Value::int64(cast::int64(&v[0]).wrapping_add(1)))),
    open("add", &[], Any, |_, v| Ok(Value::int64(v.iter().fold(0, |a, b| a.wrapping_add(cast::int64(b)))))),
    fixed("sub", &[Any, Any], |_, v| Ok(Value::int64(cast::int64(&v[0]).wrapping_sub(cast::int64(&v[1]))))),
    fixed("div", &[Any, Any], |_, v| match cast::int64(&v[1]) {
        0 => Err(Fail::from("runtime error: integer divide by zero")),
        n => Ok(Value::int64(cast::int64(&v[0]).wrapping_div(n))),
    }),
    fixed("mod", &[Any, Any], |_, v| match cast::int64(&v[1]) {
        0 => Err(Fail::from("runtime error: integer divide by zero")),
        n => Ok(Value::int64(cast::int64(&v[0]).wrapping_rem(n))),
    }),
    open("mul", &[Any], Any, |_, v| Ok(Value::int64(v.iter().fold(1, |a, b| a.wrapping_mul(cast::int64(b)))))),
    fixed("add1f", &[Any], |s, v| decimal(s, &v[0], &[Value::int(1)], Op::Add)),
    open("addf", &[], Any, |s, v| decimal(s, &Value::Float(0.0), v, Op::Add)),
    open("subf", &[Any], Any, |s, v| decimal(s, &v[0], &v[1..], Op::Sub)),
    open("mulf", &[Any], Any, |s, v| decimal(s, &v[0], &v[1..], Op::Mul)),
    open("divf", &[Any], Any, |s, v| decimal(s, &v[0], &v[1..], Op::Div)),
    open("max", &[Any], Any, |_, v| Ok(Value::int64(v.iter().map(cast::int64).max().unwrap_or(0)))),
    open("biggest", &[Any], Any, |_, v| Ok(Value::int64(v.iter().map(cast::int64).max().unwrap_or(0)))),
    open("min", &[Any], Any, |_, v| Ok(Value::int64(v.iter().map(cast::int64).min().unwrap_or(0)))),
    open("maxf", &[Any], Any, |_, v| Ok(Value::Float(v.iter().map(cast::float64).reduce(largest).unwrap_or(0.0)))),
    open("minf", &[Any], Any, |_, v| Ok(Value::Float(v.iter().map(cast::float64).reduce(smallest).unwrap_or(0.0)))),
    fixed("ceil", &[Any], |_, v| Ok(Value::Float(cast::float64(&v[0]).ceil()))),
    fixed("floor", &[Any], |_, v| Ok(Value::Float(cast::float64(&v[0]).floor()))),
    open("round", &[Any, Int], Float, |_, v| {
        let on = match v.get(2) {
            Some(Value::Float(on)) => *on,
            _ => 0.5,
        };
        let power = 10f64.powf(int(v, 1) as f64);
        let digit = power * cast::float64(&v[0]);
        let rounded = if digit.fract() >= on { digit.ceil() } else { digit.floor() };
        Ok(Value::Float(rounded / power))
    }),
    fixed("until", &[Int], |s, v| {
        let count = int(v, 0);
        ints(s, 0, count, if count < 0 { -1 } else { 1 }).map(list)
    }),
    fixed("untilStep", &[Int, Int, Int], |s, v| ints(s, int(v, 0), int(v, 1), int(v, 2)).map(list)),
    open("seq", &[], Int, seq),
    fixed("int64", &[Any], |_, v| Ok(Value::int64(cast::int64(&v[0])))),
    fixed("int", &[Any], |_, v| Ok(Value::int(cast::int64(&v[0])))),
    fixed("float64", &[Any], |_, v| Ok(Value::Float(cast::float64(&v[0])))),
    fixed("atoi", &[Param::Str], |_, v| {
        let n = match parse_int(&super::string(v, 0), 10) {
            Ok(n) | Err(crate::number::Wrong::Range(n)) => n,
            Err(crate::number::Wrong::Syntax) => 0,
        };
        Ok(Value::int(n))
    }),
    fixed("toDecimal", &[Any], |_, v| Ok(Value::int64(parse_int(&printf::plain(&v[0]), 8).unwrap_or(0)))),
];

fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn smallest(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn list(numbers: Vec<i64>) -> Value {
    Value::List(List::of(Element::Int, numbers.into_iter().map(Value::int).collect()))
}

/// From `start` towards `stop`, without it.
fn ints(s: &mut Session<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, Fail> {
    if step == 0 || (stop < start) == (step > 0) {
        return Ok(Vec::new());
    }
    let count = start.abs_diff(stop).div_ceil(step.unsigned_abs());
    if count > 10_000_000 {
        return Err(Fail::Limit(format!("a list of {count} numbers is wanted; the most is 10000000")));
    }
    s.charge(count)?;
    Ok((0..count as i64).map(|i| start + i * step).collect())
}

fn seq(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let n = |i| int(v, i);
    let toward = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let numbers = match v.len() {
        1 => ints(s, 1, n(0).saturating_add(toward(1, n(0))), toward(1, n(0)))?,
        2 => ints(s, n(0), n(1).saturating_add(toward(n(0), n(1))), toward(n(0), n(1)))?,
        3 if n(2) < n(0) && n(1) > 0 => Vec::new(),
        3 => ints(s, n(0), n(2).saturating_add(toward(n(0), n(2))), n(1))?,
        _ => Vec::new(),
    };
    Ok(Value::str(numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")))
}

#[derive(Clone, Copy)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

/// `coefficient × 10^exponent`.
struct Decimal {
    coefficient: BigInt,
    exponent: i64,
}

impl Decimal {
    fn new(f: f64) -> Result<Self, Fail> {
        if f.is_nan() || f.is_infinite() {
            let shown = crate::number::format_float(f, 'g', None);
            return Err(Fail::Message(format!("Cannot create a Decimal from {shown}")));
        }
        let (digits, point) = shortest(f.abs());
        let coefficient = BigInt::parse_bytes(digits.as_bytes(), 10).unwrap_or_default();
        let coefficient = if f < 0.0 { -coefficient } else { coefficient };
        Ok(Self { coefficient, exponent: i64::from(point) - digits.len() as i64 })
    }

    fn at(&self, exponent: i64) -> BigInt {
        &self.coefficient * ten(self.exponent - exponent)
    }

    fn to_f64(&self) -> f64 {
        format!("{}e{}", self.coefficient, self.exponent).parse().unwrap_or(0.0)
    }
}

fn ten(power: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(power.max(0)).unwrap_or(u32::MAX).min(20_000))
}

fn decimal(s: &mut Session<'_>, first: &Value, rest: &[Value], op: Op) -> Outcome {
    let mut sum = Decimal::new(cast::float64(first))?;
    for value in rest {
        s.charge(20)?;
        let other = Decimal::new(cast::float64(value))?;
        sum = match op {
            Op::Add | Op::Sub => {
                let exponent = sum.exponent.min(other.exponent);
                let (a, b) = (sum.at(exponent), other.at(exponent));
                Decimal { coefficient: if let Op::Add = op { a + b } else { a - b }, exponent }
            }
            Op::Mul => {
                let exponent = sum.exponent + other.exponent;
                if exponent.abs() > 10_000 {
                    return Err(Fail::Limit("the product has too many digits".to_owned()));
                }
                Decimal { coefficient: sum.coefficient * other.coefficient, exponent }
            }
            Op::Div => divide(&sum, &other)?,
        };
    }
    Ok(Value::Float(sum.to_f64()))
}

/// To 16 places after the point, half away from zero.
fn divide(a: &Decimal, b: &Decimal) -> Result<Decimal, Fail> {
    if b.coefficient.sign() == Sign::NoSign {
        return Err(Fail::from("decimal division by 0"));
    }
    let shift = a.exponent - b.exponent + 16;
    let (over, under) = (&a.coefficient * ten(shift), &b.coefficient * ten(-shift));
    let quotient = &over / &under;
    let remainder = &over % &under;
    let twice = BigInt::from(remainder.magnitude().clone()) * 2;
    let mut coefficient = quotient;
    if twice >= BigInt::from(under.magnitude().clone()) {
        let up = over.sign() == under.sign();
        coefficient += if up { 1 } else { -1 };
    }
    Ok(Decimal { coefficient, exponent: -16 })
}
