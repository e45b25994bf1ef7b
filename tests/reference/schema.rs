//! The schema on real files: it accepts what the reader accepts, and refuses what has the wrong shape.

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

/// Files whose shape is right: what is wrong, or only doubtful, takes the reader to see.
const BEYOND: &[&str] = &[
    "condition-twice",
    "control-characters",
    "cycle",
    "dependency-twice",
    "doubts",
    "empty-hook",
    "long-cycle",
    "notify",
    "notify-doubts",
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
