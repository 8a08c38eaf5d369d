//! Quantities, limits, and the quality of service that follows from them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::runtime::Limits;

/// A quantity in thousandths of its unit; `None` when it is not one.
pub fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let split = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (number, suffix) = match suffix.strip_prefix(['e', 'E']) {
        // An exponent, unless it is the suffix E or Ei.
        Some(exponent) if exponent.parse::<i32>().is_ok() => (number, format!("e{exponent}")),
        _ => (number, suffix.to_owned()),
    };
    let factor: i128 = match suffix.as_str() {
        "" => 1000,
        "m" => 1,
        "k" => 1000 * 1000,
        "M" => 1000 * 1_000_000,
        "G" => 1000 * 1_000_000_000,
        "T" => 1000 * 1_000_000_000_000,
        "P" => 1000 * 1_000_000_000_000_000,
        "E" => 1000 * 1_000_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        // Below a thousandth: rounded up to one.
        "u" | "n" => return decimal(number, 1).map(|n| (n + 999) / 1000),
        other => {
            let exponent: u32 = other.strip_prefix('e')?.parse().ok()?;
            1000_i128.checked_mul(10_i128.checked_pow(exponent)?)?
        }
    };
    decimal(number, factor)
}

/// `number · factor`, rounded up.
fn decimal(number: &str, factor: i128) -> Option<i128> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(factor)?;
    let rounded = (scaled + scale - 1) / scale;
    Some(if negative { -rounded } else { rounded })
}

fn of(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i128> {
    milli(&map?.get(name)?.0)
}

fn positive(value: i128) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

/// What a container is bounded by.
pub fn limits(container: &Container) -> Limits {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    Limits {
        memory: of(limits, "memory").and_then(|bytes| positive((bytes + 999) / 1000)),
        cpu_milli: of(limits, "cpu").and_then(positive),
        cpu_request_milli: of(requests, "cpu").or_else(|| of(limits, "cpu")).and_then(positive),
        pids: None,
    }
}

/// The value behind a `resourceFieldRef`, in units of its divisor, rounded up.
pub fn field(container: &Container, resource: &str, divisor: Option<&str>) -> Option<String> {
    let (which, name) = resource.split_once('.')?;
    let resources = container.resources.as_ref()?;
    let map = match which {
        "limits" => resources.limits.as_ref(),
        "requests" => resources.requests.as_ref(),
        _ => return None,
    };
    let value = of(map, name)?;
    let divisor = divisor.and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    Some(((value + divisor - 1) / divisor).to_string())
}

/// `Guaranteed`, `Burstable` or `BestEffort`, as Kubernetes defines them.
pub fn quality(pod: &Pod) -> &'static str {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let containers: Vec<&Container> = spec.map(|s| s.containers.iter()).into_iter().flatten().chain(init).collect();
    let (mut any, mut all) = (false, true);
    for container in containers {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let limit = of(resources.and_then(|r| r.limits.as_ref()), name).filter(|n| *n > 0);
            let request = of(resources.and_then(|r| r.requests.as_ref()), name).filter(|n| *n > 0);
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let cases: [(&str, Option<i128>); 12] = [
            ("1", Some(1000)),
            ("250m", Some(250)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("128Mi", Some(134_217_728_000)),
            ("1k", Some(1_000_000)),
            ("2e3", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("100u", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            ("12x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(text), expected, "{text}");
        }
    }

    fn pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "resources": resources}]}})).unwrap()
    }

    #[test]
    fn quality_follows_from_requests_and_limits() {
        assert_eq!(quality(&pod(json!({}))), "BestEffort");
        assert_eq!(quality(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(quality(&pod(json!({"limits": {"cpu": "1", "memory": "1Gi"}}))), "Guaranteed");
        let both = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        assert_eq!(quality(&pod(both)), "Burstable");
    }

    #[test]
    fn limits_and_fields_are_in_their_units() {
        let pod = pod(json!({"limits": {"cpu": "1500m", "memory": "64Mi"}}));
        let container = &pod.spec.unwrap().containers[0];
        let limits = limits(container);
        assert_eq!((limits.memory, limits.cpu_milli), (Some(64 << 20), Some(1500)));
        assert_eq!(field(container, "limits.cpu", None).as_deref(), Some("2"));
        assert_eq!(field(container, "limits.memory", Some("1Mi")).as_deref(), Some("64"));
        assert_eq!(field(container, "limits.nope", None), None);
    }
}
