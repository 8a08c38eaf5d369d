//! Charts and values that mean harm: each ends soon, with an error that says where.

use bytes::Bytes;
use chart::{File, Flavor, Given, Limits, Loader, Render, Warnings, load::unpack};

const DESCRIPTION: &str = "apiVersion: v2\nname: bad\nversion: 0.1.0\n";

fn render(files: &[(&str, &str)]) -> Result<String, String> {
    let mut all = vec![File { name: "Chart.yaml".into(), data: DESCRIPTION.into() }];
    all.extend(files.iter().map(|(name, text)| File { name: (*name).into(), data: text.to_string().into() }));
    let warnings = Warnings::default();
    let chart = Loader::default().files(all, &warnings).map_err(|error| error.to_string())?;
    let mut render = Render::offline(Flavor::Helm4, "rel", "default");
    // Less than the default, so that the test is over sooner.
    render.options.limits.steps = 2_000_000;
    let done = render.run(&chart, &yaml::Map::new(), &warnings).map_err(|error| error.to_string())?;
    Ok(done.files.into_values().collect())
}

/// One template after a first line, so that the line is told too.
fn template(text: &str) -> Result<String, String> {
    render(&[("templates/a.yaml", &format!("# first\n{text}"))])
}

#[test]
fn templates_without_end_are_stopped_where_they_are() {
    for (text, why) in [
        ("{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}", "nested reference name"),
        ("{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}", ""),
        ("{{ $t := \"{{ tpl .t . }}\" }}{{ tpl $t (dict \"t\" $t \"Template\" .Template) }}", ""),
        ("{{ until 1000000000 }}", ""),
        ("{{ untilStep 0 9000000000000000000 1 }}", ""),
        ("{{ seq 1 9000000000000000000 }}", ""),
        ("{{ repeat 1000000000 \"x\" }}", ""),
        ("{{ indent 1000000000 \"x\" }}", ""),
        ("{{ range until 1000000 }}{{ range until 1000000 }}{{ end }}{{ end }}", ""),
        ("{{ range 9000000000000000000 }}{{ end }}", ""),
        ("{{ $x := \"ab\" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}", ""),
        ("{{ mustRegexMatch (repeat 200 \"(x{1,500}){1,500}\") \"x\" }}", ""),
    ] {
        let error = template(text).expect_err(text);
        assert!(error.contains("bad/templates/a.yaml:2:"), "{text}\n{error}");
        assert!(error.contains(why), "{text}\n{error}");
        assert!(error.len() < 1_000_000, "{text}: {} bytes of error", error.len());
    }
}

#[test]
fn the_chain_of_templates_is_told() {
    let error = render(&[
        ("templates/_deep.tpl", "{{ define \"deep\" }}\n  {{ repeat 1000000000 \"x\" }}{{ end }}"),
        ("templates/a.yaml", "a: 1\nb: {{ include \"deep\" . }}\n"),
    ]);
    let error = error.unwrap_err();
    for place in ["bad/templates/a.yaml:2:", "bad/templates/_deep.tpl:2:"] {
        assert!(error.contains(place), "{error}");
    }
}

fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let inner = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{inner}]\n"));
    }
    text
}

#[test]
fn aliases_that_explode_are_refused_in_the_chart_and_in_values_given() {
    let error = render(&[("values.yaml", &bomb())]).unwrap_err();
    assert!(error.contains("values.yaml"), "{error}");
    let given = Given { files: vec!["mine.yaml".into()], ..Given::default() };
    let error = given.merge(&mut |_| Ok(bomb().into_bytes()), Flavor::Helm4).unwrap_err().to_string();
    assert!(error.contains("mine.yaml"), "{error}");
    let read = "{{ .Files.Get \"bomb.yaml\" | fromYaml | toJson }}";
    // `fromYaml` gives its errors back as a value, as in Helm.
    match render(&[("bomb.yaml", &bomb()), ("templates/a.yaml", read)]) {
        Ok(text) => assert!(text.len() < 1000 && text.contains("Error"), "{} bytes: {:.300}", text.len(), text),
        Err(error) => assert!(error.len() < 20_000, "{error:.300}"),
    }
}

#[test]
fn deep_values_are_refused() {
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = render(&[("values.yaml", &deep)]).unwrap_err();
    assert!(error.contains("values.yaml") && error.len() < 2000, "{error}");
}

#[test]
fn a_hundred_megabytes_of_values() {
    let large = format!("a: {}\n", "x".repeat(100 << 20));
    let given = Given { files: vec!["large.yaml".into()], ..Given::default() };
    let error = given.merge(&mut |_| Ok(large.clone().into_bytes()), Flavor::Helm4).unwrap_err().to_string();
    assert!(error.contains("large.yaml"), "{}", &error[..error.len().min(300)]);
}

#[test]
fn files_are_those_of_the_chart_and_no_others() {
    for path in ["../../../etc/passwd", "/etc/passwd", "templates/../../x"] {
        let text = template(&format!("got: {{{{ .Files.Get {path:?} | quote }}}}")).unwrap();
        assert!(text.contains("got: \"\""), "{path}: {text}");
    }
    for pattern in ["../**", "/**", "/etc/*"] {
        let text = template(&format!("{{{{ range $p, $_ := .Files.Glob {pattern:?} }}}}{{{{ $p }}}}{{{{ end }}}}"));
        assert_eq!(text.unwrap().trim(), "# first");
    }
}

/// An archive with these entries, paths taken as they are.
fn archive(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, kind, data) in entries {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn archives_that_climb_out_or_swell() {
    let chart = ("bad/Chart.yaml", b'0', DESCRIPTION.as_bytes());
    let limits = Limits { chart: 1 << 20, file: 1 << 18, files: 50, ..Limits::default() };
    for path in ["bad/../../etc/passwd", "bad//etc/passwd", "bad/..", "bad/c:/x", "bad\\..\\..\\x"] {
        assert!(unpack(&archive(&[chart, (path, b'0', b"x")]), &limits).is_err(), "{path}");
    }
    let zeros = vec![0; 1 << 18];
    let swell: Vec<(&str, u8, &[u8])> = (0..20).map(|_| ("bad/zeros", b'0', zeros.as_slice())).collect();
    let packed = archive(&swell);
    assert!(packed.len() < 64 << 10, "a small archive");
    let error = unpack(&packed, &limits).unwrap_err().to_string();
    assert!(error.contains("larger than the maximum"), "{error}");
    let one = vec![0; (1 << 18) + 1];
    let error = unpack(&archive(&[("bad/large", b'0', &one)]), &limits).unwrap_err().to_string();
    assert!(error.contains("bad/large"), "{error}");
    let many: Vec<(&str, u8, &[u8])> = (0..60).map(|_| ("bad/x", b'0', &b"x"[..])).collect();
    assert!(unpack(&archive(&many), &limits).unwrap_err().to_string().contains("more than 50 files"));
    // A link in an archive is a file without content, wherever it would lead.
    let linked = unpack(&archive(&[chart, ("bad/link", b'2', b"")]), &limits).unwrap();
    assert_eq!(linked.iter().find(|file| file.name == "link").map(|file| file.data.clone()), Some(Bytes::new()));
}
