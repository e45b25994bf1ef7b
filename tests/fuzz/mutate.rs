//! Inputs that nobody would write: a corpus of right ones, cut, doubled, joined and sprinkled with what parsers dislike.

use super::random::Random;

/// What has broken parsers before.
const NASTY: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xf0\x9f\x92\xa9",
    "\u{feff}".as_bytes(),
    "\u{85}".as_bytes(),
    b"\r\n",
    b"\n",
    b"\t",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"99999999999999999999",
    b"1e999",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"\\",
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!binary ",
    b"|\n",
    b"- ",
    b": ",
    b"#",
    b"%",
    b"*/",
    b"0-59/",
    b",",
    b"**",
    b"[!",
    b"{a,b",
    b"<",
    b"</",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"&amp;",
    b"&#x110000;",
];

/// The input of this number.
pub fn input(corpus: &[&[u8]], number: u64) -> Vec<u8> {
    let mut random = Random(number);
    let mut bytes = corpus[random.below(corpus.len())].to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(7) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => bytes.truncate(at),
            4 => {
                let other = corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            5 => {
                let piece = NASTY[random.below(NASTY.len())].repeat(1 + random.below(3));
                bytes.splice(at..at, piece);
            }
            _ => {
                // Much of one thing: what is quadratic shows.
                let piece = bytes.get(at..end).filter(|piece| !piece.is_empty()).unwrap_or(b"a").repeat(random.below(300));
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// The shortest input that still fails.
pub fn shorten(bytes: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = bytes;
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut shorter = best.clone();
            shorter.drain(at..(at + chunk).min(best.len()));
            if fails(&shorter) {
                best = shorter;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    best
}
