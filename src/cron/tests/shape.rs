//! What texts mean the same, and which values a field yields.

use super::firings;
use crate::cron::{Schedule, is_reboot};

fn same(one: &str, other: &str) {
    assert_eq!(Schedule::parse(one), Schedule::parse(other), "`{one}` and `{other}`");
    assert!(Schedule::parse(one).is_ok(), "`{one}`");
}

#[test]
fn texts_that_mean_the_same_compile_to_the_same() {
    for (one, other) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "@daily"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "@yearly"),
        ("  @daily\t", "@daily"),
        ("0 0 * * *\n", "@daily"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * SUN", "0 0 * * sun"),
        ("0 0 * * mon-fri", "0 0 * * 1-5"),
        ("0 0 * * fri-7", "0 0 * * 5,6,0"),
        ("0 0 * * 5/1", "0 0 * * 5-7"),
        ("0 0 1 JAN,Jul *", "0 0 1 1,7 *"),
        ("05 00 * * *", "5 0 * * *"),
        ("0 5 0 * * *", "5 0 * * *"),
        ("\t5 \t 0  * *\t* ", "5 0 * * *"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("5-5/20 * * * *", "5 * * * *"),
        ("50-59/90 * * * *", "50 * * * *"),
        ("1,1,1 * * * *", "1 * * * *"),
    ] {
        same(one, other);
    }
}

#[test]
fn a_star_with_a_step_is_a_star_and_a_full_range_is_not() {
    let fixed = |text| Schedule::parse(text).unwrap().is_fixed();
    assert!(fixed("0 0 * * *"));
    assert!(fixed("0-59 0-23 * * *"));
    assert!(fixed("7 0 0 * * *"));
    assert!(!fixed("*/30 0 * * *"));
    assert!(!fixed("0 */12 * * *"));
    assert!(!fixed("* 0 0 * * *"));
    assert!(!fixed("*/60 0 0 * * *"));
    assert!(!fixed("7,8 0 0 * * *"));
    assert!(!fixed("@hourly"));
}

#[test]
fn each_second_of_a_six_field_schedule_is_found() {
    assert_eq!(
        firings("*/20 59 23 31 12 *", "UTC", "2026-12-31T23:58:59Z", 4),
        ["2026-12-31T23:59:00+00:00", "2026-12-31T23:59:20+00:00", "2026-12-31T23:59:40+00:00", "2027-12-31T23:59:00+00:00"]
    );
}

#[test]
fn reboot_is_recognised_and_is_no_schedule() {
    assert!(is_reboot("@reboot"));
    assert!(is_reboot(" @reboot\t"));
    assert!(!is_reboot("@Reboot"));
    assert!(Schedule::parse("@reboot").is_err());
}

#[test]
fn days_that_some_month_has_are_enough_to_fire() {
    for text in ["0 0 31 2,3 *", "0 0 29 2 *", "0 0 29 2 */8", "0 0 30 2 1", "0 0 30,1 2 *", "0 0 31 * *"] {
        assert!(Schedule::parse(text).is_ok(), "{text}");
    }
    for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30-31 2 */2", "0 0 0 31 4 *"] {
        assert!(Schedule::parse(text).is_err(), "{text}");
    }
}
