//! The schema on real files: it accepts what the reader accepts, and refuses wrong shapes.

use boon::{Compiler, SchemaIndex, Schemas};
use firelink::config::reference::schema;

use super::yaml_files;

pub struct Checker {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Checker {
    pub fn new() -> Checker {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("firelink.json", schema()).expect("a JSON document");
        let index = compiler.compile("firelink.json", &mut schemas).unwrap_or_else(|error| panic!("not a schema: {error:#}"));
        Checker { schemas, index }
    }

    pub fn check(&self, text: &str) -> Result<(), String> {
        let value = super::yaml::to_json(text).map_err(|error| format!("not YAML: {error}"))?;
        self.schemas.validate(&value, self.index).map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn the_schema_accepts_every_example() {
    let checker = Checker::new();
    for (name, text) in yaml_files("examples") {
        assert_eq!(checker.check(&text), Ok(()), "{name}");
    }
}

/// Files that only the reader refuses or warns about: their shape is right.
const BEYOND: &[&str] = &[
    "condition-twice",
    "control-characters",
    "cycle",
    "dependency-twice",
    "empty-on-success",
    "lints",
    "long-cycle",
    "notify",
    "notify-lints",
    "schedule-fields",
    "schedule-never",
    "self-dependency",
    "tag",
    "time-zones",
    "two-cycles",
    "two-of-one-name",
    "unknown-dependency",
    "users",
    "warnings",
    "web-listen",
];

#[test]
fn the_schema_refuses_every_wrong_file_whose_shape_is_wrong() {
    let checker = Checker::new();
    let accepted: Vec<String> = yaml_files("tests/data/config")
        .into_iter()
        .filter(|(_, text)| checker.check(text).is_ok())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(accepted, BEYOND);
}
