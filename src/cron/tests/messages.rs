//! Every message that a person may see about a schedule, as a snapshot.

use crate::cron::Schedule;

const REFUSED: &[&str] = &[
    "",
    "   ",
    "* * * *",
    "daily",
    "* * * * * * *",
    "0 0 * * * root /bin/true --all",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 13 *",
    "* * * * 8",
    "60 * * * * *",
    "99999999999999999999 * * * *",
    "-1 * * * *",
    "5- * * * *",
    "5-1 * * * *",
    "22-4 * * * *",
    "0 22-4 * * *",
    "0 0 * * fri-sun",
    "0 0 * * fri-mon",
    "1-2-3 * * * *",
    "*/0 * * * *",
    "*/ * * * *",
    "*/x * * * *",
    "*/99999999999 * * * *",
    "1/2/3 * * * *",
    "*5 * * * *",
    "1,,2 * * * *",
    ",1 * * * *",
    "1, * * * *",
    ", * * * *",
    "0 0 * feb-foo *",
    "0 0 * * monday",
    "0 0 * january *",
    "0 0 * * mno",
    "mon * * * *",
    "0 0 L * *",
    "0 0 ? * *",
    "0 0 * * 5#2",
    "\u{0663} * * * *",
    "１ * * * *",
    "*\u{a0}* * * *",
    "0 0\n* * *",
    "+5 * * * *",
    "1.5 * * * *",
    "0 0 30 2 *",
    "0 0 31 4,6,9,11 *",
    "0 0 30-31 feb */2",
    "@dailyy",
    "@Daily",
    "@fortnightly",
    "@",
    "@daily @hourly",
    "@reboot",
];

#[test]
fn the_error_of_an_invalid_schedule_names_the_token_and_the_accepted_values() {
    let shown: Vec<String> = REFUSED
        .iter()
        .map(|text| match Schedule::parse(text) {
            Ok(schedule) => panic!("`{text}` compiled to {schedule:?}"),
            Err(error) => error.render(text),
        })
        .collect();
    insta::assert_snapshot!("refused_schedules", shown.join("\n\n"));
}
