//! The engine as its users see it: errors, bounds, places of output.

use template::{Family, Limits, Map, Options, Renderer, Set, Value};

fn set(texts: &[(&str, &str)]) -> Set {
    let mut set = Set::new(Family::Helm3);
    texts.iter().for_each(|(name, text)| set.parse(name, text).unwrap());
    set
}

fn render(text: &str, data: Value) -> Result<String, String> {
    let mut set = Set::new(Family::Helm3);
    set.parse("t", text).map_err(|e| e.to_string())?;
    let done = Renderer::new(&set, Options::default()).render("t", data);
    done.map(|r| r.to_str().into_owned()).map_err(|e| e.to_string())
}

#[test]
fn what_is_set_is_seen_by_later_templates() {
    let set = set(&[("a", "{{ set .Values \"x\" 1 }}"), ("b", "{{ .Values.x }}")]);
    let data = Value::map([("Values", Value::map::<&str, Value>([]))]);
    let mut renderer = Renderer::new(&set, Options::default());
    renderer.render("a", data.clone()).unwrap();
    assert_eq!(renderer.render("b", data).unwrap().to_str(), "1");
}

#[test]
fn an_error_names_the_chain_of_templates() {
    let set = set(&[
        ("c/templates/_h.tpl", "{{- define \"deep\" }}\n{{ .a.b.c }}{{ end }}"),
        ("c/templates/x.yaml", "a: 1\nb: {{ include \"deep\" . | upper }}"),
    ]);
    let error = Renderer::new(&set, Options::default())
        .render("c/templates/x.yaml", Value::map([("a", Value::map::<&str, Value>([]))]))
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "template: c/templates/x.yaml:2:6: executing \"c/templates/x.yaml\" at <include \"deep\" .>: error calling include: \
         template: c/templates/_h.tpl:2:5: executing \"deep\" at <.a.b.c>: nil pointer evaluating interface {}.c"
    );
    assert_eq!(error.inner().and_then(|e| e.place()).map(|p| p.line), Some(2));
}

#[test]
fn one_text_under_many_names_keeps_each_name() {
    let text = "{{ define \"own\" }}{{ .a.b.c }}{{ end }}{{ include \"own\" . }}";
    // These say their own names: another file of the same text is not the same.
    let named = "{{ define \"x/one\" }}A{{ end }}{{ template \"x/one\" . }}";
    let cache = std::sync::Arc::new(template::Cache::default());
    let mut set = Set::with_cache(Family::Helm3, cache.clone());
    let files = [("a/one", text), ("b/two", text), ("y/other", named), ("x/one", named), ("z/third", named)];
    set.ahead(files.iter().copied());
    let parsed: Vec<_> = files.iter().map(|(name, text)| set.parse(name, text).map_err(|e| e.to_string())).collect();
    let alone: Vec<_> =
        files.iter().map(|(name, text)| Set::new(Family::Helm3).parse(name, text).map_err(|e| e.to_string())).collect();
    assert_eq!(parsed, alone, "each as if it were parsed by itself");
    for name in ["a/one", "b/two"] {
        let mut set = Set::with_cache(Family::Helm3, cache.clone());
        set.parse(name, text).unwrap();
        let data = Value::map([("a", Value::map::<&str, Value>([]))]);
        let error = Renderer::new(&set, Options::default()).render(name, data).err().unwrap().to_string();
        assert!(error.starts_with(&format!("template: {name}:1:")), "{error}");
        assert!(error.contains(&format!("template: {name}:1:23: executing \"own\"")), "{error}");
    }
}

#[test]
fn recursion_ends_as_in_helm() {
    let set = set(&[("t", "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}")]);
    let error = Renderer::new(&set, Options::default()).render("t", Value::Nil).err().unwrap().to_string();
    assert!(
        error.ends_with("rendering template has a nested reference name: a: unable to execute template"),
        "{error}"
    );
    assert!(render("{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}", Value::Nil).is_err());
    assert!(render("{{ $t := \"{{ tpl .t . }}\" }}{{ tpl $t (dict \"t\" $t) }}", Value::Nil).is_err());
}

#[test]
fn work_and_output_are_bounded() {
    let limits = Limits { steps: 1_000_000, output: 1 << 20, text: 1 << 20, ..Limits::default() };
    for text in [
        "{{ range until 10000 }}{{ range until 10000 }}{{ end }}{{ end }}",
        "{{ range until 100000 }}{{ range until 100000 }}x{{ end }}{{ end }}",
        "{{ repeat 1000000000 \"x\" }}",
        "{{ $x := \"ab\" }}{{ range until 40 }}{{ $x = print $x $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ $y := deepCopy $x }}",
        "{{ indent 1000000000 \"x\" }}",
        "{{ until 1000000000 }}",
        "{{ seq 0 9000000000000000000 }}",
    ] {
        let mut set = Set::new(Family::Helm3);
        set.parse("t", text).unwrap();
        let options = Options { limits, ..Options::default() };
        let error = Renderer::new(&set, options).render("t", Value::Nil).err().unwrap();
        assert!(error.is_limit(), "{text}: {error}");
    }
}

#[test]
fn deep_values_do_no_harm() {
    let text = "{{ $x := list 1 }}{{ range until 100000 }}{{ $x = list $x }}{{ end }}{{ print $x | len }}";
    assert!(render(text, Value::Nil).is_ok());
    let text = "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ $d | toString | len }}";
    assert!(render(text, Value::Nil).is_ok());
}

#[test]
fn bytes_are_traced_to_their_lines() {
    let set = set(&[
        ("h", "{{ define \"labels\" }}\nname: {{ .n }}\nkind: x\n{{ end }}"),
        ("t", "a: 1\nmeta:\n  {{- include \"labels\" . | nindent 2 }}\nb: {{ .n }}\n"),
    ]);
    let options = Options { trace: true, ..Options::default() };
    let done = Renderer::new(&set, options).render("t", Value::map([("n", "web")])).unwrap();
    let text = done.to_str();
    let at = |needle: &str| -> Vec<(String, usize)> {
        done.locate(text.find(needle).unwrap()).into_iter().map(|p| (p.file, p.line)).collect()
    };
    assert_eq!(at("a: 1"), [("t".to_owned(), 1)]);
    assert_eq!(at("meta"), [("t".to_owned(), 2)]);
    assert_eq!(at("kind: x"), [("t".to_owned(), 3), ("h".to_owned(), 3)]);
    assert_eq!(at("name: web"), [("t".to_owned(), 3), ("h".to_owned(), 2)]);
    assert_eq!(at("b: web"), [("t".to_owned(), 4)]);
}

#[test]
fn random_things_depend_on_seed_and_place_alone() {
    let one = |text: &str, seed| {
        let mut set = Set::new(Family::Helm3);
        set.parse("t", text).unwrap();
        let options = Options { seed, ..Options::default() };
        Renderer::new(&set, options).render("t", Value::Nil).unwrap().to_str().into_owned()
    };
    let text = "{{ randAlphaNum 20 }} {{ uuidv4 }} {{ range until 3 }}{{ randInt 0 1000000 }} {{ end }}";
    assert_eq!(one(text, 1), one(text, 1));
    assert_ne!(one(text, 1), one(text, 2));
    let words: Vec<String> = one(text, 1).split(' ').map(str::to_owned).collect();
    assert_ne!(words[2], words[3]);
}

#[test]
fn what_was_read_for_a_line_is_known() {
    let mut set = Set::new(Family::Helm4);
    let main = "\
{{- $name := .Values.name }}
name: {{ $name }}
{{- with .Values.image }}
image: {{ .repository }}:{{ .tag }}
{{- end }}
{{- range .Values.ports }}
port: {{ . }}
{{- end }}
labels:
  {{- include \"labels\" . | nindent 2 }}
plain: text
";
    set.parse("c/templates/_h.tpl", "{{ define \"labels\" }}app: {{ .Values.app }}{{ end }}").unwrap();
    set.parse("c/templates/a.yaml", main).unwrap();
    let image = Map::new();
    image.insert("repository", "nginx");
    image.insert("tag", "1.27");
    let values = Map::new();
    values.insert("name", "web");
    values.insert("app", "shop");
    values.insert("image", Value::Map(image.clone()));
    values.insert("ports", Value::list(vec![Value::Float(80.0)]));
    let root = Map::new();
    root.insert("Values", Value::Map(values.clone()));
    let options = Options { trace: true, ..Options::default() };
    let done = Renderer::new(&set, options).render("c/templates/a.yaml", Value::Map(root)).unwrap();
    let text = done.to_str().into_owned();
    let names = |reads: &[template::Read]| -> Vec<String> {
        let known = reads.iter().filter_map(|read| match read.table {
            table if table == values.address() => Some(format!("values.{}", read.key)),
            table if table == image.address() => Some(format!("image.{}", read.key)),
            _ => None,
        });
        known.collect()
    };
    let behind = |needle: &str| {
        let behind = done.behind(text.find(needle).unwrap());
        (names(&behind.reads), names(&behind.guards))
    };
    let (none, one) = (Vec::<String>::new(), |text: &str| vec![text.to_owned()]);
    assert_eq!(behind("web"), (one("values.name"), none.clone()), "{text}");
    assert_eq!(behind("1.27"), (one("image.tag"), one("values.image")));
    assert_eq!(behind("80"), (none.clone(), one("values.ports")));
    assert_eq!(behind("app: shop"), (none.clone(), none.clone()), "literal text in front of the value");
    assert_eq!(behind("shop"), (one("values.app"), none.clone()));
    assert_eq!(behind("plain"), (none.clone(), none));
}
