//! Random schedules that know what they mean: each field comes with the values that it must allow, worked out
//! beside its text and not from it.

use proptest::prelude::*;

/// A field's text and the values it allows.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) text: String,
    pub(super) values: Vec<u32>,
}

impl Field {
    pub(super) fn star(&self) -> bool {
        self.text.starts_with('*')
    }
}

/// A schedule and what it means.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub(super) text: String,
    pub(super) second: Option<Field>,
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day: Field,
    pub(super) month: Field,
    pub(super) weekday: Field,
}

impl Meaning {
    pub(super) fn fixed(&self) -> bool {
        let one_second = self.second.as_ref().is_none_or(|second| !second.star() && second.values.len() == 1);
        one_second && !self.minute.star() && !self.hour.star()
    }

    pub(super) fn matches_day(&self, month: u32, day: u32, weekday: u32) -> bool {
        let by_day = self.day.values.contains(&day);
        // Sunday is 0 and 7.
        let by_weekday = self.weekday.values.iter().any(|value| value % 7 == weekday);
        let both = self.day.star() || self.weekday.star();
        self.month.values.contains(&month) && if both { by_day && by_weekday } else { by_day || by_weekday }
    }

    pub(super) fn matches_minute(&self, hour: u32, minute: u32) -> bool {
        self.minute.values.contains(&minute) && self.hour.values.contains(&hour)
    }

    pub(super) fn matches_second(&self, second: u32) -> bool {
        self.second.as_ref().map_or(second == 0, |field| field.values.contains(&second))
    }

    /// The seconds of a minute, of which there is one without the sixth field.
    pub(super) fn seconds(&self) -> Vec<u32> {
        self.second.as_ref().map_or(vec![0], |field| field.values.clone())
    }
}

fn element(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let make = |text: String, mut values: Vec<u32>| {
        values.sort_unstable();
        values.dedup();
        Field { text, values }
    };
    let stepped =
        |from: u32, to: u32, step: u32| (from..=to).filter(|value| (value - from).is_multiple_of(step)).collect::<Vec<_>>();
    let single = (low..=high).prop_map(move |a| make(a.to_string(), vec![a]));
    let range = (low..=high, low..=high)
        .prop_map(move |(a, b)| make(format!("{}-{}", a.min(b), a.max(b)), (a.min(b)..=a.max(b)).collect()));
    let stepped_range = (low..=high, low..=high, 1..=high)
        .prop_map(move |(a, b, n)| make(format!("{}-{}/{n}", a.min(b), a.max(b)), stepped(a.min(b), a.max(b), n)));
    let open = (low..=high, 1..=high).prop_map(move |(a, n)| make(format!("{a}/{n}"), stepped(a, high, n)));
    let star = (1..=high).prop_map(move |n| make(format!("*/{n}"), stepped(low, high, n)));
    prop_oneof![4 => single, 2 => range, 1 => stepped_range, 1 => open, 1 => star]
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let all = Just(Field { text: "*".into(), values: (low..=high).collect() });
    let list = proptest::collection::vec(element(low, high), 1..4).prop_map(|parts| {
        let text = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(",");
        let mut values: Vec<u32> = parts.into_iter().flat_map(|part| part.values).collect();
        values.sort_unstable();
        values.dedup();
        Field { text, values }
    });
    prop_oneof![1 => all, 2 => list]
}

fn any_value(low: u32, high: u32) -> impl Strategy<Value = Field> {
    Just(Field { text: "*".into(), values: (low..=high).collect() })
}

/// Schedules of five and six fields, half of them daily. They may name days that no month has.
pub(super) fn meaning() -> impl Strategy<Value = Meaning> {
    let day = prop_oneof![any_value(1, 31).boxed(), field(1, 31).boxed()];
    let month = prop_oneof![3 => any_value(1, 12).boxed(), 1 => field(1, 12).boxed()];
    let weekday = prop_oneof![any_value(0, 7).boxed(), field(0, 7).boxed()];
    let second = proptest::option::weighted(0.3, field(0, 59));
    (second, field(0, 59), field(0, 23), day, month, weekday).prop_map(|(second, minute, hour, day, month, weekday)| {
        let fields = second.iter().chain([&minute, &hour, &day, &month, &weekday]);
        let text = fields.map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ");
        Meaning { text, second, minute, hour, day, month, weekday }
    })
}

/// Zones with every kind of change: half hours, midnights, lost days, two hours, three hours.
pub(super) const ZONES: [&str; 16] = [
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "America/Santiago",
    "Asia/Beirut",
    "Africa/Cairo",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Africa/Casablanca",
    "Asia/Gaza",
    "America/Caracas",
    "Asia/Kathmandu",
];
