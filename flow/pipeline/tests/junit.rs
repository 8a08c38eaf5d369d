//! Reports as real programs write them, and reports that are broken.

macro_rules! golden {
    ($told:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($told) })
    };
}
macro_rules! golden_yaml {
    ($value:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_yaml_snapshot!($value) })
    };
}

use pipeline::junit::{LARGEST, merge, parse};
use proptest::prelude::*;

const NODE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<testsuites>
	<testcase name="adds" time="0.000733" classname="test"/>
	<testsuite name="journal" time="0.5" disabled="0" errors="0" tests="4" failures="1" skipped="1" hostname="h">
		<testcase name="keeps entries" time="0.001" classname="test"/>
		<testcase name="is &lt;strict&gt; &amp; kind" time="0.001" classname="test" failure="Expected values to be strictly equal:&#10;&#10;1 !== 2&#10;">
			<failure type="testCodeFailure" message="Expected values to be strictly equal:&#10;&#10;1 !== 2&#10;">
Error [ERR_TEST_FAILURE]: Expected
			</failure>
		</testcase>
		<testcase name="later" time="0" classname="test">
			<skipped type="skipped" message="true"/>
		</testcase>
		<testsuite name="nested" time="0" disabled="0" errors="0" tests="1" failures="0" skipped="1" hostname="h">
			<testcase name="todo" time="0" classname="test"><skipped type="todo" message="x"/></testcase>
		</testsuite>
	</testsuite>
	<!-- tests 6 -->
</testsuites>
"#;

const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="0" tests="3" time="0.1" timestamp="2026-11-20T10:00:00" hostname="h"><testcase classname="tests.test_a" name="test_ok" time="0.001" /><testcase classname="tests.test_a" name="test_bad" time="0.001"><failure message="assert 1 == 2">def test_bad():
&gt;       assert 1 == 2</failure></testcase><testcase classname="tests.test_a" name="test_broken"><error message="failed on setup with &quot;x&quot;">boom</error></testcase></testsuite></testsuites>"#;

const SUREFIRE: &str = r#"<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="org.x.ATest" time="0.1" tests="2" errors="0" skipped="0" failures="1">
  <properties><property name="java.version" value="21"/></properties>
  <testcase name="works" classname="org.x.ATest" time="0.01"><system-out><![CDATA[<failure> in the output is no failure]]></system-out></testcase>
  <testcase name="fails" classname="org.x.ATest" time="0.01">
    <failure type="java.lang.AssertionError"><![CDATA[java.lang.AssertionError: x < y]]> &amp; more &unknown; &#65;
    </failure>
    <system-out>not part of it</system-out>
  </testcase>
</testsuite>"#;

#[test]
fn reports_of_three_programs() {
    golden_yaml!([NODE, PYTEST, SUREFIRE].map(|xml| parse(xml.as_bytes()).unwrap()));
}

#[test]
fn a_case_that_fails_twice_counts_once() {
    let xml = r#"<testsuites><testsuite><testcase name="a"><failure message="1"/><error message="2"/></testcase></testsuite></testsuites>"#;
    let summary = parse(xml.as_bytes()).unwrap();
    assert_eq!((summary.failed, summary.failures), (1, vec![("a".to_owned(), "1".to_owned())]));
}

#[test]
fn broken_reports_say_what_is_wrong() {
    let deep = format!("<testsuite>{}", "<a>".repeat(200));
    let told: Vec<String> = [
        &b""[..],
        b"hello",
        b"<html></html>",
        b"<testsuites><testsuite>",
        b"<testsuite></a>",
        b"\xff\xfe",
        deep.as_bytes(),
    ]
    .iter()
    .map(|xml| parse(xml).unwrap_err().to_string())
    .chain([parse(&vec![b' '; LARGEST + 1]).unwrap_err().to_string()])
    .collect();
    golden!(told.join("\n"));
}

#[test]
fn many_failures_are_all_counted_and_fifty_are_kept() {
    let one = r#"<testcase name="x"><failure message="m"/></testcase>"#;
    let xml = format!("<testsuite>{}</testsuite>", one.repeat(200));
    let summary = parse(xml.as_bytes()).unwrap();
    assert_eq!((summary.failed, summary.failures.len()), (200, 50));
    let both = merge([summary.clone(), summary]);
    assert_eq!((both.failed, both.failures.len()), (400, 50));
}

#[test]
fn entities_are_never_expanded() {
    let xml = r#"<!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>
<testsuite><testcase name="&f;"><failure>&b;&f;</failure></testcase></testsuite>"#;
    let summary = parse(xml.as_bytes()).unwrap();
    assert_eq!(summary.failures, [("&f;".to_owned(), "&b;&f;".to_owned())]);
}

proptest! {
    #[test]
    fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..NODE.len()) {
        let _ = parse(&bytes);
        let _ = parse(&NODE.as_bytes()[..cut]);
        let broken = [&NODE.as_bytes()[..cut], &bytes].concat();
        let _ = parse(&broken);
    }
}
