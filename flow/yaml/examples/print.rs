//! Reads documents, one JSON text a line, and prints them as sigs.k8s.io/yaml and go-yaml v3 would: for comparing with them.

use std::io::BufRead;

fn main() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let document: String = serde_json::from_str(&line).unwrap_or_default();
        let mut answer = serde_json::Map::new();
        match yaml::from_str(&document) {
            Ok(value) => answer.insert("v2".to_owned(), yaml::to_go(&value).into()),
            Err(error) => answer.insert("e2".to_owned(), error.to_string().into()),
        };
        let decode = yaml::Decode { dialect: yaml::Dialect::V3, ..yaml::Decode::default() };
        match decode.value(&document) {
            Ok(value) => {
                let layout = yaml::Layout { indent: 2, compact: false };
                answer.insert("v3".to_owned(), yaml::print(&yaml::to_node(&value), &layout).into())
            }
            Err(error) => answer.insert("e3".to_owned(), error.v3().into()),
        };
        println!("{}", serde_json::Value::Object(answer));
    }
}
