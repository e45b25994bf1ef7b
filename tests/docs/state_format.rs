//! docs/state-format.md: the tables are those of a fresh database, and the journal is read by what the page says.

use std::hash::Hasher as _;

use rusqlite::Connection;
use siphasher::sip::SipHasher13;

use crate::daemon::Place;
use crate::root;

fn page() -> String {
    std::fs::read_to_string(root().join("docs/state-format.md")).unwrap()
}

/// Statements without the white space that SQLite keeps of them.
fn plain(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    words.join(" ").replace("( ", "(").replace(" )", ")")
}

#[test]
fn the_tables_of_the_page_are_those_of_the_database() {
    let place = Place::new("jobs: [{ name: a, trigger: manual }]\n");
    place.start().terminate();
    let conn = Connection::open(place.state_dir().join("state.db")).unwrap();
    let mut tables = conn.prepare("SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name").unwrap();
    let tables: Vec<String> =
        tables.query_map([], |row| row.get::<_, String>(0)).unwrap().map(|sql| plain(&sql.unwrap())).collect();
    let page = page();
    let block = page.split("```").nth(1).unwrap();
    let mut documented: Vec<String> =
        block.split("CREATE TABLE").skip(1).map(|table| plain(&format!("CREATE TABLE{table}"))).collect();
    documented.sort_by_key(|table| table.split([' ', '(']).nth(2).map(str::to_owned));
    assert_eq!(documented, tables);
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert!(page.contains(&format!("is the schema version: **{version}**")), "{version}");
    let last = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<i64>().ok()).max();
    assert!(page.contains(&format!("\n| {version} | ")) && last > Some(version - 1), "the table of versions ends with {version}");
}

#[test]
fn the_recorded_journal_is_read_by_the_rule_of_the_page() {
    let bytes = std::fs::read(root().join("tests/recorded/state/journal")).unwrap();
    let (page, mut at, mut frames, mut last) = (page(), 0, 0, None);
    while let Some(head) = bytes.get(at..at + 20) {
        let length = usize::try_from(u32::from_le_bytes(head[..4].try_into().unwrap())).unwrap();
        let number = i64::from_le_bytes(head[4..12].try_into().unwrap());
        let hash = u64::from_le_bytes(head[12..].try_into().unwrap());
        let Some(payload) = bytes.get(at + 20..at + 20 + length) else { break };
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        hasher.write(&number.to_le_bytes());
        hasher.write(payload);
        if hasher.finish() != hash || last.is_some_and(|last| number != last + 1) {
            break;
        }
        let entries: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(payload).unwrap();
        assert!(!entries.is_empty());
        for entry in &entries {
            let (kind, fields) = entry.iter().next().unwrap();
            let row = page.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
            let row = row.unwrap_or_else(|| panic!("{kind} is not in docs/state-format.md"));
            let below = fields.get("row").and_then(|row| row.as_object()).into_iter().flatten();
            for (field, _) in fields.as_object().unwrap().iter().chain(below) {
                assert!(row.contains(&format!("`{field}`")), "{kind}: {field}");
            }
        }
        (at, frames, last) = (at + 20 + length, frames + 1, Some(number));
    }
    assert!(frames > 1, "{frames} frames");
}
