//! Errors as people see them, and properties of the parser.

use proptest::prelude::*;

use super::*;

fn error(text: &str) -> String {
    parse("Dockerfile", text).unwrap_err().to_string()
}

#[test]
fn errors_show_the_line_the_reason_and_the_way_out() {
    let texts = [
        "",
        "# only a comment\n",
        "FROM a\nRUM npm ci\n",
        "FROM a\n  FROBNICATE x\n",
        "RUN x\nFROM a\n",
        "FROM a\nRUN\n",
        "FROM a b\n",
        "FROM a AS 1st\n",
        "FROM --platfrom=x a\n",
        "FROM a\nCOPY x\n",
        "FROM a\nCOPY --form=b x y\n",
        "FROM a\nENV A\n",
        "FROM a\nENV A=1 B\n",
        "FROM a\nARG 1x\n",
        "FROM a\nSHELL /bin/bash\n",
        "FROM a\nHEALTHCHECK curl x\n",
        "FROM a\nRUN <<EOF\necho\n",
        "FROM a\nRUN [\"x\", \"<<EOF\"]\nRUN x \\\n  && y \\\n  && z \\\nBAD here\nCOPY y\n",
        "FROM a\nONBUILD FROM b\n",
        "# escape=x\nFROM a\n",
        "# escape=\\\n# escape=`\nFROM a\n",
        "FROM a\nCOPY a <<EOF\nEOF\n",
    ];
    let shown: Vec<String> = texts.iter().map(|text| error(text)).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn every_form_of_the_reference_is_read() {
    let text = r#"# syntax=docker/dockerfile:1
# escape=\
# check=skip=all

ARG VERSION=1.2 OTHER
FROM --platform=$BUILDPLATFORM golang:${VERSION}-alpine AS Build
# comment
RUN --mount=type=cache,target=/root/.cache \
    # inside
    go build \
    -o /out
RUN ["go", "test"]
RUN <<EOF cat > /x
text
EOF
COPY --link --chown=1:2 --from=0 ["a b", "c/"]
COPY <<a <<-'b' /target/
one
a
	two
	b
ADD --checksum=sha256:00 https://example.org/x /x
ENV A=1 B="x y" C=a\ b
ENV old form of it
LABEL "a.b"="c" d='e f'
EXPOSE 80/tcp 443
VOLUME ["/a", "/b"]
VOLUME /c /d
USER app:app
WORKDIR "/a b"
STOPSIGNAL 9
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
HEALTHCHECK --interval=5s --timeout=3s CMD curl -f http://localhost/ || exit 1
HEALTHCHECK NONE
ONBUILD COPY . /app
ENTRYPOINT ["/x"]
CMD serve --now
MAINTAINER me <me@example.org>
from scratch
"#;
    let file = parse("Dockerfile", text).unwrap();
    assert_eq!(file.instructions.len(), 25);
    assert_eq!(file.directives.len(), 3);
    let Kind::From(from) = &file.instructions[1].kind else { panic!() };
    assert_eq!(from.name.as_ref().unwrap().value, "build");
    let Kind::Run(run) = &file.instructions[2].kind else { panic!() };
    let Command::Shell(command) = &run.command else { panic!() };
    assert_eq!(command.value, "go build     -o /out");
    let Kind::Copy(copy) = &file.instructions[6].kind else { panic!() };
    let CopySource::Heredoc(second) = &copy.sources[1] else { panic!() };
    assert_eq!(
        (second.expand, second.chomp, second.content.as_str(), second.chomped().as_str()),
        (false, true, "\ttwo\n", "two\n")
    );
    assert!(parse("Dockerfile", &file.to_string()).unwrap() == file);
}

#[test]
fn windows_line_ends_and_the_other_escape() {
    let file = parse("Dockerfile", "\u{feff}# escape=`\r\nFROM a\r\nRUN x `\r\n  y\\\r\nCOPY a` b c\\\r\n").unwrap();
    let Kind::Run(run) = &file.instructions[1].kind else { panic!() };
    let Command::Shell(command) = &run.command else { panic!() };
    assert_eq!(command.value, "x   y\\");
    let Kind::Copy(copy) = &file.instructions[2].kind else { panic!() };
    assert_eq!((copy.sources.len(), copy.target.value.as_str()), (1, "c\\"));
}

#[test]
fn places_survive_continuation() {
    let text = "FROM a\nCOPY one \\\n  # c\n  two \\\n  three/ extra=\n";
    let file = parse("Dockerfile", text).unwrap();
    let Kind::Copy(copy) = &file.instructions[1].kind else { panic!() };
    let CopySource::Path(two) = &copy.sources[1] else { panic!() };
    assert_eq!(&text[two.span.start..two.span.end], "two");
    assert_eq!(file.source.position(two.span.start), (4, 3));
    assert_eq!(&text[copy.target.span.start..copy.target.span.end], "extra=");
}

#[test]
fn too_much_is_refused() {
    assert!(error(&"x".repeat(MAX_SIZE + 1)).contains("more than"));
    let many = format!("FROM a\n{}", "RUN x\n".repeat(MAX_INSTRUCTIONS));
    assert!(error(&many).contains("more than 5000 instructions"));
}

/// Lines that look like Dockerfiles, and some that do not.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "(FROM|RUN|COPY|ADD|ENV|LABEL|ARG|CMD|ENTRYPOINT|VOLUME|EXPOSE|USER|WORKDIR|ONBUILD|HEALTHCHECK|SHELL|STOPSIGNAL)( [-a-z$={}:/\"'\\\\<#,\\[\\]*]{0,12}){0,4}",
        "(RUN|COPY|ADD) <<-?[\"']?[A-C][\"']?( [a-z/]{1,5}){0,2}",
        "[A-C]",
        "\t[A-C]",
        "(# )?(escape|syntax|check)=[\\\\`a-z]",
        "[ \t]{0,3}#.{0,5}",
        ".{0,20}\\\\",
        "\\PC{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn never_panics(text in "\\PC{0,200}|[ -~\\n\\t\\\\]{0,300}") {
        let _ = parse("Dockerfile", &text).map_err(|error| error.to_string());
    }

    #[test]
    fn lines_never_panic(lines in prop::collection::vec(line(), 0..12), crlf: bool) {
        let text = lines.join(if crlf { "\r\n" } else { "\n" });
        let _ = parse("Dockerfile", &text).map_err(|error| error.to_string());
    }

    #[test]
    fn printing_and_reading_again_changes_nothing(lines in prop::collection::vec(line(), 0..8)) {
        let text = format!("FROM a\n{}\n", lines.join("\n"));
        if let Ok(file) = parse("Dockerfile", &text) {
            let printed = file.to_string();
            let again = parse("Dockerfile", &printed).map_err(|e| TestCaseError::fail(format!("{printed:?}: {e}")))?;
            prop_assert!(again == file, "{printed:?}");
        }
    }

    #[test]
    fn spans_lie_in_the_text(lines in prop::collection::vec(line(), 0..8)) {
        let text = format!("FROM a\n{}\n", lines.join("\n"));
        if let Ok(file) = parse("Dockerfile", &text) {
            let mut last = 0;
            for instruction in &file.instructions {
                let span = instruction.span();
                prop_assert!(span.start >= last && span.end <= text.len());
                let keyword = instruction.keyword.span;
                prop_assert!(text[keyword.start..keyword.end].eq_ignore_ascii_case(instruction.keyword.as_str()));
                last = span.end;
            }
        }
    }

    #[test]
    fn expansion_never_panics(word in "\\PC{0,60}|[${}:+?#%/a'\"\\\\-]{0,40}") {
        let _ = expand::expand(&word, '\\', &mut |name| (name.len() % 2 == 0).then(|| name.to_owned()));
        let _ = expand::expand_text(&word, '`', &mut |_| None);
    }
}

#[test]
fn what_is_printed_is_read_as_what_it_was() {
    for text in [
        "FROM -- --x",
        "FROM a\nRUN -- --x",
        "FROM a\nCOPY -- --a <<X /t/\nb\nX",
        "FROM a\nENV b c \\\n \u{b}",
        "FROM a\nLABEL b c \\\n",
    ] {
        let file = parse("Dockerfile", text).unwrap();
        assert_eq!(parse("Dockerfile", &file.to_string()).unwrap(), file, "{file}");
    }
}
