//! Bringing objects into being.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};
use store::Expect;

use super::{Cidr, Objects, Resource, Scope, meta, resource};
use crate::{Cause, Error, Result, api::defaults};

/// The letters of generated names: no vowels and nothing that looks like one, so that no words come up.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Objects {
    /// Brings an object into being, with its defaults, an identity and a version of its own.
    pub async fn create(&self, resource: &Resource, object: Value) -> Result<Arc<Value>> {
        self.create_or_rehearse(resource, object, false).await
    }

    /// As [`Objects::create`]; with `dry_run` everything but the writing.
    pub async fn create_or_rehearse(
        &self,
        resource: &Resource,
        mut object: Value,
        dry_run: bool,
    ) -> Result<Arc<Value>> {
        self.identify(resource, &mut object)?;
        defaults::apply(resource, &mut object);
        defaults::born(resource, &mut object);
        if let Some(namespace) = self.missing_namespace(resource, &object) {
            return Err(namespace);
        }
        let (namespace, name) = (meta::namespace(&object), meta::name(&object));
        if self.find(resource, namespace, name).is_some() {
            return Err(Error::already_exists(resource.group, resource.plural, name));
        }
        // Chosen addresses are only free until the Service is written.
        let _guard = match resource == &resource::SERVICES {
            true => Some(self.shared.allocation.lock().await),
            false => None,
        };
        if resource == &resource::SERVICES {
            self.allocate(&mut object)?;
        }
        if dry_run {
            return Ok(Arc::new(object));
        }
        self.append(resource, &object, Expect::Absent, false).await
    }

    /// Gives an object what every new object has.
    fn identify(&self, resource: &Resource, object: &mut Value) -> Result<()> {
        object["apiVersion"] = resource.stored_as.unwrap_or(resource).api_version().into();
        object["kind"] = resource.kind.into();
        let metadata = meta::map_mut(object, "metadata");
        let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, prefix, namespace) = (text("name"), text("generateName"), text("namespace"));
        if name.is_empty() {
            if prefix.is_empty() {
                let cause = Cause::required("metadata.name", "name or generateName is required");
                return Err(Error::invalid(resource.group, resource.kind, "", &[cause]));
            }
            // What the suffix leaves of the 63 bytes of a DNS label.
            let cut = prefix.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 58).last();
            let name = format!("{}{}", &prefix[..cut.unwrap_or(0)], suffix(5)?);
            metadata.insert("name".into(), name.into());
        }
        if resource.namespaced {
            if namespace.is_empty() {
                metadata.insert("namespace".into(), "default".into());
            }
        } else {
            metadata.shift_remove("namespace");
        }
        for gone in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            metadata.shift_remove(gone);
        }
        metadata.insert("uid".into(), uuid()?.into());
        metadata.insert("creationTimestamp".into(), meta::time(self.now()).into());
        if resource.generations {
            metadata.insert("generation".into(), 1.into());
        }
        Ok(())
    }

    /// Why nothing can be made in the object's namespace.
    fn missing_namespace(&self, resource: &Resource, object: &Value) -> Option<Error> {
        if !resource.namespaced {
            return None;
        }
        let name = meta::namespace(object);
        match self.find(&resource::NAMESPACES, "", name) {
            None => Some(Error::not_found("", "namespaces", name)),
            Some(namespace) if meta::is_deleting(&namespace) => {
                let why = format!("unable to create new content in namespace {name} because it is being terminated");
                let causes = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace",
                    "message": format!("namespace {name} is being terminated")}]);
                let details = json!({"name": meta::name(object), "kind": resource.plural, "causes": causes});
                Some(Error::forbidden(resource.group, resource.plural, meta::name(object), &why).with_details(details))
            }
            Some(_) => None,
        }
    }

    /// Gives another address to each Service that has one of a network that is not this node's any more: while it was stopped, somebody
    /// else on the machine may have taken the network.
    pub async fn readdress(&self) -> Result<()> {
        let (services, _) = self.list(&resource::SERVICES, &Scope::all());
        for service in services.iter().filter(|service| self.has_lost_its_address(service)) {
            let (namespace, name) = (meta::namespace(service), meta::name(service));
            let given = self.modify(&resource::SERVICES, namespace, name, forget_address).await?;
            tracing::info!(
                namespace,
                name,
                address = given["spec"]["clusterIP"].as_str(),
                "a Service has a new address"
            );
        }
        Ok(())
    }

    fn has_lost_its_address(&self, service: &Value) -> bool {
        let address = service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok());
        address.is_some_and(|ip| !holds(self.service_network(), ip))
    }

    /// As [`defaults::keep_addresses`]; an address that is lost is not kept.
    pub(super) fn keep_addresses(&self, old: &Value, new: &mut Value) -> Result<()> {
        if !self.has_lost_its_address(old) {
            return defaults::keep_addresses(old, new);
        }
        if new["spec"]["clusterIP"] == old["spec"]["clusterIP"] {
            forget_address(new);
        }
        let mut old = old.clone();
        forget_address(&mut old);
        defaults::keep_addresses(&old, new)
    }

    /// Gives a Service its address and node ports; refuses those that another Service has.
    pub(super) fn allocate(&self, service: &mut Value) -> Result<()> {
        let (others, _) = self.list(&resource::SERVICES, &Scope::all());
        let own = (meta::namespace(service).to_owned(), meta::name(service).to_owned());
        let others = others.iter().filter(|o| (meta::namespace(o), meta::name(o)) != (own.0.as_str(), own.1.as_str()));
        let (mut addresses, mut ports) = (HashSet::new(), HashSet::new());
        for other in others {
            addresses.extend(other["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
            let other_ports = other["spec"]["ports"].as_array().into_iter().flatten();
            ports.extend(other_ports.filter_map(|port| port["nodePort"].as_u64()));
        }
        let invalid = |cause: Cause| Error::invalid("", "Service", &own.1, &[cause]);
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        let asked = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let address = match asked.as_str() {
            "" => free_address(self.service_network(), &addresses).ok_or_else(|| {
                Error::failed("no address is left for another Service; delete Services that are not used")
            })?,
            "None" => String::new(),
            asked => match asked.parse::<Ipv4Addr>() {
                Ok(ip) if !holds(self.service_network(), ip) => {
                    let Cidr { network, prefix } = self.service_network();
                    let why = format!(
                        "failed to allocate IP {ip}: the provided IP is not in the valid range. \
                        The range of valid IPs is {network}/{prefix}"
                    );
                    return Err(invalid(Cause::invalid("spec.clusterIPs", &json!([asked]), &why)));
                }
                Ok(ip) if addresses.contains(&ip) => {
                    let why = format!("failed to allocate IP {ip}: provided IP is already allocated");
                    return Err(invalid(Cause::invalid("spec.clusterIPs", &json!([asked]), &why)));
                }
                Ok(ip) => ip.to_string(),
                Err(_) => {
                    return Err(invalid(Cause::invalid(
                        "spec.clusterIPs[0]",
                        &json!(asked),
                        "must be a valid IP address",
                    )));
                }
            },
        };
        let shown = if address.is_empty() { "None".to_owned() } else { address };
        service["spec"]["clusterIP"] = shown.as_str().into();
        service["spec"]["clusterIPs"] = json!([shown]);
        if kind == "NodePort" || kind == "LoadBalancer" {
            for (at, port) in service["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate() {
                let chosen = match port["nodePort"].as_u64().filter(|port| *port != 0) {
                    Some(asked) if ports.contains(&asked) => {
                        let field = format!("spec.ports[{at}].nodePort");
                        return Err(invalid(Cause::invalid(
                            field,
                            &asked.into(),
                            "provided port is already allocated",
                        )));
                    }
                    Some(asked) => asked,
                    None => (30_000..=32_767)
                        .find(|port| !ports.contains(port))
                        .ok_or_else(|| Error::failed("no node port is left; delete Services that are not used"))?,
                };
                ports.insert(chosen);
                port["nodePort"] = chosen.into();
            }
        }
        Ok(())
    }
}

fn forget_address(service: &mut Value) {
    if let Some(spec) = service["spec"].as_object_mut() {
        spec.shift_remove("clusterIP");
        spec.shift_remove("clusterIPs");
    }
}

fn holds(cidr: Cidr, ip: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(cidr.prefix.min(32))).unwrap_or(0);
    u32::from(ip) & mask == u32::from(cidr.network) & mask
}

/// The lowest free address behind the first one, which is the API's own.
fn free_address(cidr: Cidr, taken: &HashSet<Ipv4Addr>) -> Option<String> {
    let first = u32::from(cidr.network);
    let size = 1u32.checked_shl(32 - u32::from(cidr.prefix.min(32))).unwrap_or(u32::MAX);
    // The network's own address and its broadcast address stay out, and `.10`, by custom the address of DNS.
    (2..size.saturating_sub(1))
        .filter(|offset| *offset != 10)
        .map(|offset| Ipv4Addr::from(first.wrapping_add(offset)))
        .find(|ip| !taken.contains(ip))
        .map(|ip| ip.to_string())
}

fn random(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::failed("the system gave no random bytes"))
}

/// `length` letters at random, as generated names end.
pub fn suffix(length: usize) -> Result<String> {
    let mut bytes = vec![0; length];
    random(&mut bytes)?;
    Ok(bytes.iter().map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()])).collect())
}

/// A random UUID (version 4).
pub fn uuid() -> Result<String> {
    let mut bytes = [0; 16];
    random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
