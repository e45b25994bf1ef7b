//! The hashes that identify objects. They are stored, so they must never change: SipHash-1-3 (Aumasson and
//! Bernstein) over plain bytes, with the 128-bit output, under fixed keys. With a million objects in a bucket, two
//! keys share a hash with a probability of 1 in 10^27.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128 as _, SipHasher13 as SipHasher13x128};

use crate::model::{ObjectKey, ObjectVersion};

// Arbitrary but fixed: fractional digits of pi.
const KEY_0: u64 = 0x243f_6a88_85a3_08d3;
const KEY_1: u64 = 0x1319_8a2e_0370_7344;

/// The bit of a version that is always zero: the seen-set keeps its mark there.
pub(in crate::triggers) const SPARE_BIT: u64 = 1 << 63;

/// Hashes an object's key; a file name may be any bytes.
pub(in crate::triggers) fn object_key(key: impl AsRef<[u8]>) -> ObjectKey {
    let mut hasher = SipHasher13x128::new_with_keys(KEY_0, KEY_1);
    hasher.write(key.as_ref());
    let hash = hasher.finish128();
    ObjectKey((u128::from(hash.h1) << 64) | u128::from(hash.h2))
}

/// Hashes the attributes of which one must differ for an object to count as changed. The size comes first, with a fixed width,
/// so that different pairs are different bytes.
pub(in crate::triggers) fn object_version(etag: &str, size: u64) -> ObjectVersion {
    let mut hasher = SipHasher13::new_with_keys(KEY_0, KEY_1);
    hasher.write(&size.to_le_bytes());
    hasher.write(etag.as_bytes());
    ObjectVersion(hasher.finish() & !SPARE_BIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change_because_they_are_stored() {
        assert_eq!({ object_key("input/a.csv").0 }, 0x6bf6_ae72_9fae_f0bc_9290_0264_451a_5f8d);
        assert_eq!({ object_key("").0 }, 0x0f7c_01cf_f216_3174_bcb3_bd23_835f_2271);
        assert_eq!(object_version("d41d8cd98f00b204e9800998ecf8427e", 0).0, 0x3ab7_20c1_15a8_8083);
    }

    #[test]
    fn a_version_differs_with_the_etag_and_with_the_size() {
        let version = object_version("abc", 10);
        assert_ne!(version, object_version("abd", 10));
        assert_ne!(version, object_version("abc", 11));
        assert_eq!(version, object_version("abc", 10));
        assert!((0..1000).all(|size| object_version("x", size).0 & SPARE_BIT == 0));
    }
}
