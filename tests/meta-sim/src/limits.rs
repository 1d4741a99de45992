//! Meta's limits beyond rates: marketing per customer, customers per portfolio, management calls. All are off unless set.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/messaging-limits>. Knows neither messages nor webhooks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// The time over which customers and marketing messages are counted.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The time over which management calls are counted.
const HOUR_MS: i64 = 60 * 60 * 1000;

/// What Meta limits, for everybody alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many marketing templates a customer gets in 24 hours from all businesses without a word in between; the next one fails with
    /// 131049. Those in an open window do not count.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/marketing-templates/per-user-limits>
    pub marketing_per_customer: Option<usize>,
    /// How many customers a portfolio reaches outside their windows in any 24 hours; a send to one more fails with 131048.
    pub customers_per_day: Option<usize>,
    /// How many management calls an app may make for an account in an hour; more are refused with 80007.
    ///
    /// <https://developers.facebook.com/docs/graph-api/overview/rate-limiting>
    pub calls_per_hour: Option<usize>,
}

impl Limits {
    /// The messaging limit as Meta names it: `TIER_250`, `TIER_2K`, … or `TIER_UNLIMITED`.
    pub(crate) fn tier(&self) -> String {
        match self.customers_per_day {
            None => "TIER_UNLIMITED".into(),
            Some(limit) if limit >= 1000 && limit % 1000 == 0 => format!("TIER_{}K", limit / 1000),
            Some(limit) => format!("TIER_{limit}"),
        }
    }
}

/// What was counted, and when.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// Times of the marketing templates of the last day, per customer.
    marketing_ms: BTreeMap<String, Vec<i64>>,
    /// Per portfolio.
    reached: BTreeMap<String, Reached>,
    /// Times of the management calls of the last hour, per app and account.
    calls_ms: BTreeMap<String, VecDeque<i64>>,
    /// When each number's sends were accepted.
    pub(crate) sends_ms: BTreeMap<String, Vec<i64>>,
    /// How many sends of each number were refused with 130429.
    pub(crate) throttled: BTreeMap<String, u64>,
}

/// The customers whom a portfolio has reached, by when they were last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reached {
    last_ms: BTreeMap<String, i64>,
    oldest: BTreeSet<(i64, String)>,
}

impl Counts {
    /// How many marketing templates the customer got in the last 24 hours, since they last wrote.
    pub(crate) fn marketing_of(&mut self, now_ms: i64, customer: &str) -> usize {
        let Some(times) = self.marketing_ms.get_mut(customer) else { return 0 };
        times.retain(|it| now_ms - it < DAY_MS);
        times.len()
    }

    /// The customer gets a marketing template outside a window.
    pub(crate) fn markets(&mut self, now_ms: i64, customer: &str) {
        self.marketing_ms.entry(customer.to_owned()).or_default().push(now_ms);
    }

    /// The customer has written: what came before no longer counts.
    pub(crate) fn answered(&mut self, customer: &str) {
        self.marketing_ms.remove(customer);
    }

    /// Whether the portfolio may reach this customer too, as one of at most `most` in 24 hours.
    pub(crate) fn may_reach(&mut self, now_ms: i64, portfolio: &str, customer: &str, most: usize) -> bool {
        let Some(reached) = self.reached.get_mut(portfolio) else { return most > 0 };
        while let Some((at_ms, customer)) = reached.oldest.first().cloned()
            && now_ms - at_ms >= DAY_MS
        {
            reached.last_ms.remove(&customer);
            reached.oldest.pop_first();
        }
        reached.last_ms.contains_key(customer) || reached.last_ms.len() < most
    }

    /// The portfolio reaches this customer outside a window.
    pub(crate) fn reaches(&mut self, now_ms: i64, portfolio: &str, customer: &str) {
        let reached = self.reached.entry(portfolio.to_owned()).or_default();
        if let Some(before_ms) = reached.last_ms.insert(customer.to_owned(), now_ms) {
            reached.oldest.remove(&(before_ms, customer.to_owned()));
        }
        reached.oldest.insert((now_ms, customer.to_owned()));
    }

    /// Counts a management call, unless there were `most` in the last hour. Tells whether it may be made.
    pub(crate) fn may_call(&mut self, now_ms: i64, app: &str, account: &str, most: usize) -> bool {
        let times = self.calls_ms.entry(format!("{app}/{account}")).or_default();
        times.retain(|it| now_ms - it < HOUR_MS);
        let may_call = times.len() < most;
        if may_call {
            times.push_back(now_ms);
        }
        may_call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portfolio_reaches_so_many_customers_in_any_24_hours() {
        let mut counts = Counts::default();
        let mut reach = |now_ms: i64, customer: &str| {
            let may = counts.may_reach(now_ms, "p", customer, 2);
            if may {
                counts.reaches(now_ms, "p", customer);
            }
            may
        };
        assert_eq!([reach(0, "ana"), reach(1, "eva"), reach(2, "ana"), reach(3, "leo")], [true, true, true, false]);
        assert!(!reach(DAY_MS, "leo"), "ana was reached again at 2");
        assert!(reach(DAY_MS + 1, "leo"), "eva's day is over");
        assert!(!reach(DAY_MS + 1, "eva"));
        assert!(reach(DAY_MS + 2, "eva"), "ana's day is over");
        assert!(!counts.may_reach(0, "other", "ana", 0) && counts.may_reach(0, "other", "ana", 1));
    }

    #[test]
    fn marketing_counts_for_a_day_or_until_an_answer() {
        let mut counts = Counts::default();
        counts.markets(0, "ana");
        counts.markets(5, "ana");
        assert_eq!([counts.marketing_of(DAY_MS - 1, "ana"), counts.marketing_of(DAY_MS, "ana"), counts.marketing_of(0, "eva")], [2, 1, 0]);
        counts.answered("ana");
        assert_eq!(counts.marketing_of(6, "ana"), 0);
    }

    #[test]
    fn calls_are_counted_per_app_and_account_and_hour() {
        let mut counts = Counts::default();
        let mut call = |now_ms: i64, account: &str| counts.may_call(now_ms, "app", account, 1);
        assert_eq!([call(0, "a"), call(1, "a"), call(1, "b"), call(HOUR_MS, "a")], [true, false, true, true]);
    }

    #[test]
    fn tiers_are_named_as_metas() {
        let tier = |limit| Limits { customers_per_day: limit, ..Limits::default() }.tier();
        assert_eq!([None, Some(250), Some(2000), Some(100_000)].map(tier), ["TIER_UNLIMITED", "TIER_250", "TIER_2K", "TIER_100K"]);
    }
}
