//! Test results in JUnit XML, as `node --test`, pytest, Surefire, Gradle, `cargo nextest`, go-junit-report and others write them.
//!
//! There is no standard; what they share is `testcase` elements in (nested) `testsuite` elements, with `failure`, `error` or `skipped` inside.
//! The counts in attributes differ in what they count, so the cases themselves are counted.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use records::TestSummary;

/// The largest report, in bytes.
pub const LARGEST: usize = 64 << 20;
/// How deep suites may lie in each other.
const DEEPEST: usize = 100;
/// How many failed tests are kept with their messages.
const MOST_FAILURES: usize = 50;
/// How much of a name and of a message is kept, in characters.
const LONGEST_NAME: usize = 300;
const LONGEST_MESSAGE: usize = 2_000;

/// A report that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the test report has {0} bytes, the limit is {LARGEST}: let the step write less output into it")]
    TooLarge(usize),
    #[error("the test report nests elements more than {DEEPEST} deep")]
    TooDeep,
    #[error("the test report is not UTF-8")]
    NotUtf8,
    #[error("the test report is not XML: {message} (at byte {at}); was the program stopped while it wrote the report?")]
    NotXml { at: u64, message: String },
    #[error("the test report is no JUnit XML: it starts with `{0}`, expected `testsuites` or `testsuite`")]
    OtherXml(String),
}

/// A test case that is being read.
struct Case {
    name: String,
    failed: bool,
    skipped: bool,
    message: String,
    /// The depth of its element.
    depth: usize,
    /// Whether the text that comes belongs to a failure that had no message.
    takes_text: bool,
}

/// Reads one report.
pub fn parse(xml: &[u8]) -> Result<TestSummary, Error> {
    if xml.len() > LARGEST {
        return Err(Error::TooLarge(xml.len()));
    }
    let text = std::str::from_utf8(xml).map_err(|_| Error::NotUtf8)?;
    let text = text.trim_start_matches('\u{FEFF}');
    let mut reader = Reader::from_str(text);
    // The ends of empty elements come as events of their own: one way to close a case.
    reader.config_mut().expand_empty_elements = true;
    reader.config_mut().allow_dangling_amp = true;
    let mut summary = TestSummary::default();
    // The names of open elements: for suites their `name`, else nothing.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut case: Option<Case> = None;
    let mut seen = false;
    loop {
        let event = reader.read_event();
        let event = event.map_err(|e| Error::NotXml { at: reader.error_position(), message: e.to_string() })?;
        match event {
            Event::Start(element) => {
                let name = element.local_name();
                let name = name.as_ref();
                if !seen && !matches!(name, "testsuites" | "testsuite") {
                    return Err(Error::OtherXml(clip(name, 60)));
                }
                seen = true;
                if open.len() >= DEEPEST {
                    return Err(Error::TooDeep);
                }
                let suite = if matches!(name, "testsuite" | "testsuites") { attribute(&element, "name") } else { None };
                open.push(suite);
                start(name, &element, &open, &mut case);
            }
            Event::Text(text) => add(&mut case, || text.xml_content(XmlVersion::Implicit1_0).into_owned()),
            Event::CData(text) => add(&mut case, || text.xml_content(XmlVersion::Implicit1_0).into_owned()),
            Event::GeneralRef(entity) => add(&mut case, || resolve(&entity)),
            Event::End(_) => {
                if let Some(ended) = case.take_if(|case| case.depth == open.len()) {
                    count(ended, &mut summary);
                } else if let Some(case) = &mut case {
                    case.takes_text = false;
                }
                open.pop();
            }
            Event::Eof if !seen => return Err(Error::OtherXml("nothing".into())),
            Event::Eof if !open.is_empty() => {
                return Err(Error::NotXml { at: xml.len() as u64, message: "it ends in the middle".into() });
            }
            Event::Eof => return Ok(summary),
            _ => {}
        }
    }
}

/// Puts the results of several reports together.
pub fn merge(reports: impl IntoIterator<Item = TestSummary>) -> TestSummary {
    let mut sum = TestSummary::default();
    for report in reports {
        sum.passed += report.passed;
        sum.failed += report.failed;
        sum.skipped += report.skipped;
        sum.failures.extend(report.failures);
    }
    sum.failures.truncate(MOST_FAILURES);
    sum
}

fn start(name: &str, element: &BytesStart<'_>, open: &[Option<String>], case: &mut Option<Case>) {
    match (name, case.as_mut()) {
        ("testcase", None) => {
            // Suites are named after the file or the `describe` that they come from; the outermost says nothing more.
            let mut path: Vec<String> = open.iter().flatten().filter(|name| !name.is_empty()).cloned().collect();
            let own = attribute(element, "name").unwrap_or_default();
            match attribute(element, "classname") {
                // What most programs write: the class says more than the suites around it. Node.js writes `test` for all.
                Some(class) if !class.is_empty() && class != "test" && class != "suite" => path = vec![class],
                _ => {}
            }
            path.push(own);
            let status = attribute(element, "status").unwrap_or_default();
            *case = Some(Case {
                name: clip(&path.join(" › "), LONGEST_NAME),
                failed: false,
                skipped: matches!(status.as_str(), "notrun" | "disabled" | "skipped"),
                message: String::new(),
                depth: open.len(),
                takes_text: false,
            });
        }
        ("failure" | "error", Some(case)) => {
            case.failed = true;
            if case.message.is_empty() {
                let message = attribute(element, "message").unwrap_or_default();
                case.takes_text = message.trim().is_empty();
                case.message = clip(message.trim(), LONGEST_MESSAGE);
            }
        }
        ("skipped", Some(case)) => case.skipped = true,
        _ => {}
    }
}

fn add(case: &mut Option<Case>, text: impl FnOnce() -> String) {
    if let Some(case) = case.as_mut().filter(|case| case.takes_text && case.message.len() < LONGEST_MESSAGE) {
        case.message.push_str(&text());
    }
}

fn count(case: Case, summary: &mut TestSummary) {
    if case.failed {
        summary.failed += 1;
        if summary.failures.len() < MOST_FAILURES {
            summary.failures.push((case.name, clip(case.message.trim(), LONGEST_MESSAGE)));
        }
    } else if case.skipped {
        summary.skipped += 1;
    } else {
        summary.passed += 1;
    }
}

/// The value of an attribute. One that cannot be decoded, for example for an unknown entity, is taken as it stands.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == name)?;
    let raw = || String::from_utf8_lossy(attribute.value.as_ref().as_ref()).into_owned();
    Some(attribute.normalized_value(XmlVersion::Implicit1_0).map_or_else(|_| raw(), |value| value.into_owned()))
}

/// A reference in text: the five names of XML and numbers; others stay as they stand, nothing is ever expanded.
fn resolve(entity: &quick_xml::events::BytesRef<'_>) -> String {
    if let Ok(Some(c)) = entity.resolve_char_ref() {
        return c.to_string();
    }
    let name = entity.xml_content(XmlVersion::Implicit1_0);
    match quick_xml::escape::resolve_predefined_entity(&name) {
        Some(text) => text.to_owned(),
        None => format!("&{name};"),
    }
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
