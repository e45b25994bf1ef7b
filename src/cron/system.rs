//! Reading the system's own rules, once for each load of the configuration: `$TZ`, else `/etc/localtime` (tzset(3)).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::tzif::Rules;

/// Folders with a file for each zone.
const FOLDERS: [&str; 4] = ["/usr/share/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo", "/usr/share/lib/zoneinfo"];

const LOCALTIME: &str = "/etc/localtime";

/// A zone's file has a few kilobytes; `$TZ` may name any file.
const LARGEST_FILE: u64 = 1 << 20;

/// The rules of the value of `$TZ`, if it is set, else those of `/etc/localtime`; where they can't be read, those of the file of
/// the zone with this name, else universal time.
pub(super) fn rules(tz: Option<&str>, name: Option<&str>) -> Rules {
    let stated = match tz {
        None | Some("localtime") => from_file(Path::new(LOCALTIME)),
        Some("") => Some(Rules::utc()),
        Some(text) => match text.strip_prefix(':') {
            Some(file) => from_folders(file),
            None => from_folders(text).or_else(|| Rules::from_posix(text.trim_ascii())),
        },
    };
    stated.or_else(|| name.and_then(from_folders)).unwrap_or_else(Rules::utc)
}

/// True if `/etc/localtime` is there.
pub(super) fn has_localtime() -> bool {
    std::fs::metadata(LOCALTIME).is_ok()
}

fn from_folders(file: &str) -> Option<Rules> {
    if Path::new(file).is_absolute() {
        return from_file(Path::new(file));
    }
    FOLDERS.iter().find_map(|folder| from_file(&Path::new(folder).join(file)))
}

fn from_file(path: &Path) -> Option<Rules> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(LARGEST_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Rules::from_tzif(&read().ok()?)
}
