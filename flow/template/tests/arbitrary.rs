//! Whatever the text is, parsing and rendering end with output or an error, never with a panic.

use proptest::prelude::*;
use template::{Family, Limits, Options, Renderer, Set, Value, function_names};

fn attempt(text: &str) {
    let mut set = Set::new(Family::Helm4);
    if set.parse("t", text).is_err() {
        return;
    }
    let limits = Limits { steps: 200_000, output: 1 << 20, text: 1 << 18, ..Limits::default() };
    let data = Value::map([("a", Value::map([("b", "c")])), ("l", Value::list(vec![Value::int(1), Value::Nil]))]);
    if let Err(error) = Renderer::new(&set, Options { limits, trace: true, ..Options::default() }).render("t", data) {
        assert!(!error.to_string().is_empty());
    }
}

/// Arguments that are wrong in many ways.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(".a".to_owned()),
        Just(".l".to_owned()),
        Just(".nil".to_owned()),
        Just("nil".to_owned()),
        Just("(list 1 \"a\" nil)".to_owned()),
        Just("(dict \"a\" 1)".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("1e300".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        "[ -~é]{0,8}".prop_map(|text| template::quoted(&text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in ".{0,60}") {
        attempt(&text);
        attempt(&format!("{{{{{text}}}}}"));
    }

    #[test]
    fn any_tokens(tokens in prop::collection::vec(
        prop_oneof![
            Just("{{"), Just("}}"), Just("{{-"), Just("-}}"), Just("if"), Just("else"), Just("end"), Just("range"), Just("with"),
            Just("define"), Just("\"t\""), Just("template"), Just("include"), Just("tpl"), Just("."), Just(".a.b"), Just("$"),
            Just("$x"), Just(":="), Just("="), Just("("), Just(")"), Just("|"), Just(","), Just("break"), Just("1"), Just("nil"),
            Just("block"), Just("\n"), Just("/*"), Just("*/"),
        ], 0..30)) {
        attempt(&tokens.join(" "));
    }

    #[test]
    fn any_call(name in prop::sample::select(function_names(Family::Helm4)), args in prop::collection::vec(argument(), 0..5)) {
        let slow = name.starts_with("gen") || name == "bcrypt" || name == "htpasswd" || name == "derivePassword";
        if !slow {
            attempt(&format!("{{{{ {name} {} }}}}", args.join(" ")));
        }
    }
}
