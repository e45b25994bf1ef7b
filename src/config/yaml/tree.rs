//! A YAML document as a tree of values that know their places.
//!
//! The tree is flat: values are numbers into one list, texts are ranges of the file. An alias is the number of the value
//! that it names, so that nothing is copied and an alias bomb costs no memory; it still costs the time of a walk through
//! it, which [`MAX_VALUES`] bounds.

use crate::triggers::Place;

/// The most values of a file, those behind each use of an alias included: 10,000 jobs that use every key are a million. A
/// value takes 24 bytes while the file is read.
pub(super) const MAX_VALUES: usize = 2_000_000;

/// The deepest nesting of lists and maps. The keys of a configuration need 5.
pub(super) const MAX_DEPTH: usize = 32;

/// A value of a [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct NodeId(pub(super) u32);

/// A scalar as it was written.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Scalar<'a> {
    /// Its text, unquoted.
    pub(in crate::config) value: &'a str,
    /// Of the scalar, quotes included.
    pub(in crate::config) place: Place,
    /// The offset of `value` in the file, if it is written there without escapes and folding.
    pub(in crate::config) verbatim_at: Option<usize>,
    /// True if it is unquoted, and so may mean null.
    plain: bool,
}

impl Scalar<'_> {
    /// True for an absent value, `~` and `null`, unquoted.
    pub(in crate::config) fn is_null(&self) -> bool {
        self.plain && matches!(self.value, "" | "~" | "null" | "Null" | "NULL")
    }
}

/// The content of a value.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Value<'a> {
    Scalar(Scalar<'a>),
    List(&'a [NodeId]),
    Map(Pairs<'a>),
}

/// The keys and values of a map, in the order of the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Pairs<'a>(&'a [NodeId]);

impl<'a> Pairs<'a> {
    pub(in crate::config) fn iter(self) -> impl Iterator<Item = (NodeId, NodeId)> + 'a {
        self.0.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    pub(in crate::config) fn len(self) -> usize {
        self.0.len() / 2
    }
}

/// 20 bytes a value: large files are read on small boxes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The text is this range of the file.
    Verbatim { at: u32, len: u32, plain: bool },
    /// The text differs from what is written (escapes, folding) and is this one of the owned texts.
    Owned { index: u32, plain: bool },
    /// Its items are this range of the links.
    List { first: u32, len: u32 },
    /// Its keys and values, in turn, are this range of the links.
    Map { first: u32, len: u32 },
}

/// One YAML document.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct Document<'t> {
    pub(super) text: &'t str,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<NodeId>,
    pub(super) owned: Vec<String>,
    pub(super) root: NodeId,
}

impl Document<'_> {
    pub(in crate::config) fn root(&self) -> NodeId {
        self.root
    }

    pub(in crate::config) fn value(&self, id: NodeId) -> Value<'_> {
        let node = self.node(id);
        let links = |first: u32, len: u32| &self.links[first as usize..(first + len) as usize];
        match node.shape {
            Shape::Verbatim { at, len, plain } => Value::Scalar(Scalar {
                value: &self.text[at as usize..(at + len) as usize],
                place: node.place(),
                verbatim_at: Some(at as usize),
                plain,
            }),
            Shape::Owned { index, plain } => {
                Value::Scalar(Scalar { value: &self.owned[index as usize], place: node.place(), verbatim_at: None, plain })
            }
            Shape::List { first, len } => Value::List(links(first, len)),
            Shape::Map { first, len } => Value::Map(Pairs(links(first, len))),
        }
    }

    pub(in crate::config) fn scalar(&self, id: NodeId) -> Option<Scalar<'_>> {
        match self.value(id) {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// True if both are equal apart from their places.
    pub(in crate::config) fn are_same(&self, one: NodeId, other: NodeId) -> bool {
        let all = |one: &[NodeId], other: &[NodeId]| {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| self.are_same(*one, *other))
        };
        one == other
            || match (self.value(one), self.value(other)) {
                (Value::Scalar(one), Value::Scalar(other)) => one.value == other.value && one.plain == other.plain,
                (Value::List(one), Value::List(other)) | (Value::Map(Pairs(one)), Value::Map(Pairs(other))) => all(one, other),
                _ => false,
            }
    }

    /// The place of a value as a whole, for a message: a scalar, or a list or map on one line; else its first child.
    pub(in crate::config) fn place(&self, id: NodeId) -> Place {
        let (node, place) = (self.node(id), self.node(id).place());
        match node.shape {
            Shape::List { first, len } | Shape::Map { first, len } if self.text[place.start..place.end].contains('\n') => {
                match len {
                    0 => place,
                    // A list's `-` is part of it and precedes its first item.
                    _ if matches!(node.shape, Shape::List { .. }) => Place { start: place.start, end: place.start + 1 },
                    _ => self.place(self.links[first as usize]),
                }
            }
            _ => place,
        }
    }

    /// The first difference between two readings of one text: the first value, in the order in which values end, with
    /// another place, shape or text.
    pub(super) fn first_difference(&self, other: &Document<'_>) -> Option<Place> {
        if self == other {
            return None;
        }
        let owned = |document: &Document<'_>, shape| match shape {
            Shape::Owned { index, .. } => document.owned.get(index as usize).cloned(),
            _ => None,
        };
        let pairs = self.nodes.iter().zip(&other.nodes);
        let mut differing = pairs.filter(|(one, two)| one != two || owned(self, one.shape) != owned(other, two.shape));
        let shorter = self.nodes.len().min(other.nodes.len());
        let rest = self.nodes.get(shorter).or_else(|| other.nodes.get(shorter));
        Some(match differing.next() {
            Some((one, two)) => if one.start <= two.start { one } else { two }.place(),
            // The same values, linked differently.
            None => rest.map_or_else(|| self.place(self.root), Node::place),
        })
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

impl Node {
    fn place(&self) -> Place {
        Place { start: self.start as usize, end: self.end as usize }
    }
}

/// Offsets and counts fit 32 bits: the file does.
pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
