//! The Date header: an IMF-fixdate (RFC 9110 §5.6.7), written anew when the second changes. No clock here.

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The date of the present second. One for each worker.
#[derive(Clone, Debug)]
pub struct DateCache {
    unix_seconds: u64,
    text: [u8; 29],
}

impl Default for DateCache {
    fn default() -> Self {
        Self { unix_seconds: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }
}

impl DateCache {
    /// Tells the time, in seconds since 1970 and before the year 10000. Returns whether the text is another now.
    pub fn update(&mut self, unix_seconds: u64) -> bool {
        if unix_seconds == self.unix_seconds {
            return false;
        }
        self.write(unix_seconds);
        true
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.text
    }

    fn write(&mut self, unix_seconds: u64) {
        self.unix_seconds = unix_seconds;
        let (days, second_of_day) = (unix_seconds / 86_400, unix_seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        self.text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
        self.two_digits(5, day);
        self.text[8..11].copy_from_slice(MONTHS[month as usize]);
        self.two_digits(12, year / 100 % 100);
        self.two_digits(14, year % 100);
        self.two_digits(17, second_of_day / 3600);
        self.two_digits(20, second_of_day / 60 % 60);
        self.two_digits(23, second_of_day % 60);
    }

    /// `number` is below 100.
    fn two_digits(&mut self, at: usize, number: u64) {
        self.text[at] = b'0' + (number / 10) as u8;
        self.text[at + 1] = b'0' + (number % 10) as u8;
    }
}

/// Year, month (from 0) and day (from 1) of a day since 1970-01-01. Years begin in March here, so that the leap day is the
/// last. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    (era * 400 + year_of_era + u64::from(month < 2), month, day)
}
