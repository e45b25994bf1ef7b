//! Any YAML into a [`Document`]: the events of granit-parser, collected.
//!
//! The events and not a deserializer: they carry the exact bytes of each value, and a deserializer stops at the first
//! mistake.

use std::borrow::Cow;
use std::collections::HashSet;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::tree::{Document, MAX_DEPTH, MAX_VALUES, Node, NodeId, Shape, small};
use crate::config::findings::Findings;
use crate::text::quoted;
use crate::triggers::Place;

/// Reads a text of at most 4 GiB. `None` if it is not one YAML document, which is reported.
pub(super) fn parse<'t>(text: &'t str, findings: &Findings) -> Option<Document<'t>> {
    let mut options: Options = options! { flow_nesting_limit: 2 * MAX_DEPTH, block_nesting_limit: 2 * MAX_DEPTH };
    options.set_emit_comments(false);
    let mut builder = Builder::new(text, findings);
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => builder.take(event, span)?,
            Err(error) => {
                builder.report_syntax(&error);
                return None;
            }
        }
    }
    builder.finish()
}

/// A list or map whose end has not been read.
struct Open {
    is_map: bool,
    /// Its anchor, 0 for none.
    anchor: usize,
    start: usize,
    /// The index of its first child in the stack of children.
    children: usize,
    /// The number of its values, itself and those behind aliases included.
    weight: usize,
}

/// A value with an anchor, and the number of its values.
#[derive(Clone, Copy)]
struct Anchored {
    node: NodeId,
    weight: usize,
}

struct Builder<'t, 'f> {
    text: &'t str,
    findings: &'f Findings,
    nodes: Vec<Node>,
    links: Vec<NodeId>,
    owned: Vec<String>,
    open: Vec<Open>,
    /// The children so far of all open lists and maps.
    children: Vec<NodeId>,
    /// Indexed by the parser's numbers for anchors.
    anchors: Vec<Option<Anchored>>,
    /// The number of values behind uses of aliases.
    aliased: usize,
    root: Option<NodeId>,
    documents: usize,
    sound: bool,
}

impl<'t, 'f> Builder<'t, 'f> {
    fn new(text: &'t str, findings: &'f Findings) -> Builder<'t, 'f> {
        // A value every 12 bytes is what plain jobs have; growing by doubling would hold the list twice.
        let nodes = Vec::with_capacity((text.len() / 12).min(MAX_VALUES));
        let links = Vec::with_capacity(nodes.capacity());
        Builder {
            text,
            findings,
            nodes,
            links,
            owned: Vec::new(),
            open: Vec::new(),
            children: Vec::new(),
            anchors: Vec::new(),
            aliased: 0,
            root: None,
            documents: 0,
            sound: true,
        }
    }

    /// Takes the parser's next event; `None` after an error that ends the reading.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let place = span.byte_range().map_or(Place::default(), |range| Place { start: range.start, end: range.end });
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second YAML document starts here";
                    self.findings.error(place, message, "a configuration is one document: remove the `---`");
                    return None;
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.is_text_tag(tag.as_deref(), &span);
                let end = place.start + self.text[place.start..place.end].trim_end().len();
                let shape = self.text_shape(&value, plain, place);
                let id = self.add(place.start, end, shape)?;
                self.name(anchor, id, 1);
                self.attach(id, 1);
            }
            Event::SequenceStart(_, anchor, tag) => self.open(false, anchor, tag.as_deref(), &span, place)?,
            Event::MappingStart(_, anchor, tag) => self.open(true, anchor, tag.as_deref(), &span, place)?,
            Event::SequenceEnd | Event::MappingEnd => self.close(place)?,
            Event::Alias(anchor) => self.alias(anchor, place)?,
            _ => {}
        }
        Some(())
    }

    fn finish(self) -> Option<Document<'t>> {
        let Some(root) = self.root else {
            let help = "a configuration starts with `jobs:`, see `examples/`";
            self.findings.error(Place::default(), "the file is empty", help);
            return None;
        };
        self.sound.then_some(Document { text: self.text, nodes: self.nodes, links: self.links, owned: self.owned, root })
    }

    fn add(&mut self, start: usize, end: usize, shape: Shape) -> Option<NodeId> {
        let too_many = self.nodes.len() >= MAX_VALUES;
        match u32::try_from(self.nodes.len()) {
            Ok(id) if !too_many => {
                self.nodes.push(Node { start: small(start), end: small(end.max(start)), shape });
                Some(NodeId(id))
            }
            _ => {
                let message = format!("the file contains more than {MAX_VALUES} values");
                self.findings.error(
                    Place { start, end: start + 1 },
                    message,
                    "split the jobs into several files, each with its own daemon",
                );
                None
            }
        }
    }

    /// Appends a child to the innermost open list or map, or sets the root.
    fn attach(&mut self, id: NodeId, weight: usize) {
        match self.open.last_mut() {
            Some(open) => {
                open.weight = open.weight.saturating_add(weight);
                self.children.push(id);
            }
            None => self.root = Some(id),
        }
    }

    fn name(&mut self, anchor: usize, node: NodeId, weight: usize) {
        if anchor > 0 {
            if self.anchors.len() <= anchor {
                self.anchors.resize(anchor + 1, None);
            }
            self.anchors[anchor] = Some(Anchored { node, weight });
        }
    }

    fn text_shape(&mut self, value: &str, plain: bool, place: Place) -> Shape {
        let written = &self.text[place.start..place.end];
        let inner = written.strip_prefix(['"', '\'']).filter(|_| !plain);
        let verbatim = match inner {
            Some(inner) if inner.starts_with(value) && inner.len() == value.len() + 1 => Some(place.start + 1),
            _ if written == value => Some(place.start),
            // An absent value, like that of `key:`.
            _ if written.is_empty() => return Shape::Verbatim { at: small(place.start), len: 0, plain },
            _ => None,
        };
        match verbatim {
            Some(at) => Shape::Verbatim { at: small(at), len: small(value.len()), plain },
            None => {
                self.owned.push(value.to_owned());
                Shape::Owned { index: small(self.owned.len() - 1), plain }
            }
        }
    }

    fn open(&mut self, is_map: bool, anchor: usize, tag: Option<&Tag>, span: &Span, place: Place) -> Option<()> {
        self.is_text_tag(tag, span);
        if self.open.len() >= MAX_DEPTH {
            self.report_depth(place);
            return None;
        }
        self.open.push(Open { is_map, anchor, start: place.start, children: self.children.len(), weight: 1 });
        Some(())
    }

    fn close(&mut self, place: Place) -> Option<()> {
        let Some(open) = self.open.pop() else { return Some(()) };
        // The parser reports the end of a block at the next token; the blank before it is not part of the block.
        let end = open.start + self.text[open.start..place.end.max(open.start)].trim_end().len();
        let first = self.links.len();
        if open.is_map && self.has_merge(open.children) {
            self.merge(open.children);
        } else {
            self.links.extend(&self.children[open.children..]);
        }
        self.children.truncate(open.children);
        let (first, len) = (small(first), small(self.links.len() - first));
        let shape = if open.is_map { Shape::Map { first, len } } else { Shape::List { first, len } };
        let id = self.add(open.start, end, shape)?;
        self.name(open.anchor, id, open.weight);
        self.attach(id, open.weight);
        Some(())
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Option<()> {
        let Some(Anchored { node, weight }) = self.anchors.get(anchor).copied().flatten() else {
            let message =
                format!("the alias {} is inside the value that it refers to", quoted(&self.text[place.start..place.end]));
            self.findings.error(place, message, "an alias must follow the value of its anchor: write the value out here");
            return None;
        };
        self.aliased = self.aliased.saturating_add(weight);
        if self.aliased > MAX_VALUES {
            let message = format!("the aliases up to here expand to more than {MAX_VALUES} values");
            self.findings.error(place, message, "write fewer aliases of aliases");
            return None;
        }
        self.attach(node, weight);
        Some(())
    }

    fn key_text(&self, id: NodeId) -> Option<&str> {
        match self.nodes[id.0 as usize].shape {
            Shape::Verbatim { at, len, .. } => Some(&self.text[at as usize..(at + len) as usize]),
            Shape::Owned { index, .. } => Some(&self.owned[index as usize]),
            _ => None,
        }
    }

    fn has_merge(&self, children: usize) -> bool {
        self.children[children..].iter().step_by(2).any(|key| self.key_text(*key) == Some("<<"))
    }

    /// Links a map that has `<<` keys: its own keys, then those of the merged maps that it does not have itself
    /// (<https://yaml.org/type/merge.html>).
    fn merge(&mut self, children: usize) {
        let pairs = self.children[children..].chunks_exact(2).map(|pair| [pair[0], pair[1]]);
        let (merges, own): (Vec<_>, Vec<_>) = pairs.partition(|[key, _]| self.key_text(*key) == Some("<<"));
        let mut sound = true;
        let mut merged: Vec<[NodeId; 2]> = Vec::new();
        let mut known: HashSet<&str> = own.iter().filter_map(|[key, _]| self.key_text(*key)).collect();
        for [_, value] in merges {
            let maps = match self.nodes[value.0 as usize].shape {
                Shape::List { first, len } => &self.links[first as usize..(first + len) as usize],
                _ => std::slice::from_ref(&value),
            };
            for map in maps {
                let node = &self.nodes[map.0 as usize];
                let Shape::Map { first, len } = node.shape else {
                    let place = Place { start: node.start as usize, end: node.end as usize };
                    self.findings.error(place, "expected a map or a list of maps for `<<`", "for example `<<: *base`");
                    sound = false;
                    continue;
                };
                for pair in self.links[first as usize..(first + len) as usize].chunks_exact(2) {
                    if self.key_text(pair[0]).is_none_or(|key| known.insert(key)) {
                        merged.push([pair[0], pair[1]]);
                    }
                }
            }
        }
        self.links.extend(own.iter().flatten());
        self.links.extend(merged.iter().flatten());
        self.sound &= sound;
    }

    /// True for `!!str`. Other core tags have no effect; foreign tags are reported.
    fn is_text_tag(&mut self, tag: Option<&Tag>, span: &Span) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some("str") => return true,
            Some("int" | "float" | "bool" | "null" | "seq" | "map") => return false,
            _ => {}
        }
        let span = span.tag_span().unwrap_or(*span);
        let place = span.byte_range().map_or(Place::default(), |range| Place { start: range.start, end: range.end });
        let message = format!("unknown tag {}", quoted(span.slice(self.text).unwrap_or_default()));
        self.findings.error(place, message, "remove it, or quote the value if the `!` is part of it");
        self.sound = false;
        false
    }

    fn report_depth(&self, place: Place) {
        let message = format!("lists and maps are nested deeper than {MAX_DEPTH} levels");
        let help = "no key needs more than a few levels: look for extra brackets or spaces";
        self.findings.error(Place { start: place.start, end: place.start + 1 }, message, help);
    }

    fn report_syntax(&self, error: &ScanError) {
        let start = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
        let rest = &self.text[self.text.floor_char_boundary(start)..];
        let end = start + rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let place = Place { start, end };
        let (message, help): (Cow<'_, str>, &str) = match error.kind() {
            ErrorKind::RecursionLimitExceeded => return self.report_depth(place),
            ErrorKind::UnknownAnchor => {
                let word = rest.split([' ', '\t', '\n', '\r', ',', ']', '}']).next().unwrap_or_default();
                let place = Place { start, end: start + word.len() };
                let message = format!("{} is a YAML alias without an anchor", quoted(word));
                let help = "quote a value that starts with `*`, like `\"*/5 * * * *\"`";
                return self.findings.error(place, message, help);
            }
            ErrorKind::MissingAnchorOrAliasName => {
                ("a value can't start with this character".into(), "quote it, like `\"* * * * *\"`")
            }
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart => ("tabs are not allowed in the indentation of YAML".into(), "use spaces"),
            ErrorKind::UnexpectedCharacter { character } if character.is_control() => (
                format!("the control character U+{:04X} is not allowed in YAML", u32::from(*character)).into(),
                "remove it, or write it as an escape in double quotes",
            ),
            ErrorKind::UnexpectedCharacter { character } => {
                (format!("a value can't start with `{character}`").into(), "quote the value")
            }
            ErrorKind::MappingValueNotAllowed => {
                ("unexpected `:`: a key is not allowed here".into(), "check the indentation; quote a value that contains `: `")
            }
            ErrorKind::UnclosedFlowCollection { open } => (
                format!("this `{open}` is never closed").into(),
                "close it where its list or map ends; quote a value that starts with a bracket",
            ),
            ErrorKind::UnclosedQuotedScalar => {
                ("this quote is never closed".into(), "close it; within double quotes write `\\\"` for a quote")
            }
            ErrorKind::BlockSequenceEntryNotAllowed => ("a list can't start here".into(), "start it on its own line"),
            ErrorKind::ExpectedBlockSequenceEntry | ErrorKind::ExpectedBlockMappingKey => (
                "the indentation matches nothing above".into(),
                "keys of one map, and items of one list, start in the same column",
            ),
            _ => (
                format!("invalid YAML: {}", error.info()).into(),
                "check the indentation, and quote values that are not plain words",
            ),
        };
        self.findings.error(place, message, help);
    }
}
