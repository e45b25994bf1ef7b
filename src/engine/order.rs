//! The order of names.

/// The indexes of a list of names, sorted by name. A start sorts ten thousand, so the first eight bytes of each name are
/// compared as one number: most names differ in those.
pub fn order_of_names<'a>(count: usize, name: impl Fn(usize) -> &'a str) -> Vec<u32> {
    let prefix = |name: &str| {
        let mut bytes = [0; 8];
        let len = name.len().min(bytes.len());
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        u64::from_be_bytes(bytes)
    };
    let mut order: Vec<(u64, u32)> = (0..).take(count).map(|place: u32| (prefix(name(place as usize)), place)).collect();
    order
        .sort_unstable_by(|(one, at), (other, place)| one.cmp(other).then_with(|| name(*at as usize).cmp(name(*place as usize))));
    order.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_sorted_by_their_bytes(names in prop::collection::vec("[ab\0é]{0,10}|nightly-b[a-c]{0,3}", 0..20)) {
            let order = order_of_names(names.len(), |place| &names[place]);
            let mut sorted = names.clone();
            sorted.sort();
            prop_assert_eq!(order.iter().map(|place| &names[*place as usize]).collect::<Vec<_>>(), sorted.iter().collect::<Vec<_>>());
        }
    }
}
