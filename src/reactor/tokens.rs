//! Tokens that can't be mistaken: an index into a slab and the slot's generation.
//!
//! epoll may report, in one batch, an event for a descriptor that an earlier event of the batch closed, and whose slot
//! (or number) a new one already has. The generation in the token tells the two apart.

use mio::Token;

/// 20 bits of index (a million descriptors) and the rest, 12 bits on 32-bit machines, of generation.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: usize = usize::MAX >> INDEX_BITS;

#[derive(Debug)]
struct Slot<T> {
    generation: usize,
    value: Option<T>,
}

/// What each token means.
#[derive(Debug)]
pub(super) struct Tokens<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

impl<T: Copy> Tokens<T> {
    pub fn new() -> Tokens<T> {
        Tokens { slots: Vec::new(), free: Vec::new() }
    }

    /// A token for `value`; `None` when a million are in use.
    pub fn add(&mut self, value: T) -> Option<Token> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < INDEX_MASK => {
                self.slots.push(Slot { generation: 0, value: None });
                self.slots.len() - 1
            }
            None => return None,
        };
        let slot = &mut self.slots[index];
        slot.value = Some(value);
        Some(Token(slot.generation << INDEX_BITS | index))
    }

    /// What the token means, unless it was removed.
    pub fn get(&self, token: Token) -> Option<T> {
        let slot = self.slots.get(token.0 & INDEX_MASK)?;
        if slot.generation == token.0 >> INDEX_BITS { slot.value } else { None }
    }

    /// Removes a token.
    pub fn remove(&mut self, token: Token) {
        let index = token.0 & INDEX_MASK;
        if self.get(token).is_some() {
            let slot = &mut self.slots[index];
            slot.value = None;
            slot.generation = (slot.generation + 1) & GENERATION_MASK;
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_reach_its_slots_next_owner() {
        let mut tokens = Tokens::new();
        let first = tokens.add('a').unwrap();
        assert_eq!(tokens.get(first), Some('a'));
        tokens.remove(first);
        let second = tokens.add('b').unwrap();
        assert_eq!((tokens.get(first), tokens.get(second)), (None, Some('b')));
        tokens.remove(first);
        assert_eq!(tokens.get(second), Some('b'));
        assert_eq!(tokens.get(Token(12_345)), None);
    }
}
