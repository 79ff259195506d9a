//! How often signs of scarce memory make the daemon look. Pure.

use crate::clock::MonoTime;

/// Lets a sign of scarce memory through at once, and the next ones not before some time has
/// passed; none is forgotten, for what was held back comes due then.
///
/// kswapd announces every round it makes, hundreds a second while a page cache is streamed through.
/// A look costs about 0.1 ms, so at the usual 100 ms apart even uninterrupted reclaim costs 0.1 %
/// of a CPU, and no reclaim costs nothing: with nothing held back there is no timer.
#[derive(Clone, Copy, Debug)]
pub struct WakeGate {
    spacing_ms: i64,
    /// Signs before this moment are held back.
    opens: MonoTime,
    /// When a look is taken without another sign.
    due: Option<MonoTime>,
}

impl WakeGate {
    /// A gate that lets one look through per `spacing_ms`.
    #[must_use]
    pub const fn new(spacing_ms: i64) -> Self {
        Self { spacing_ms, opens: MonoTime::ZERO, due: None }
    }

    /// A sign came: whether to look now. If not, [`Self::due`] says when.
    #[must_use]
    pub fn knock(&mut self, now: MonoTime) -> bool {
        let early = now < self.opens;
        if early {
            self.due = Some(self.due.map_or(self.opens, |due| due.min(self.opens)));
        }
        !early
    }

    /// A look was taken, whatever made the daemon take it. While reclaim goes on another one is
    /// due after the spacing: what happens until then may not wake the loop by itself. A vigil sets
    /// the time of the next look itself, nearer or farther; a look that was not `for_scarcity` spares
    /// what a vigil does not, and cannot put its looks off.
    pub fn looked(
        &mut self,
        now: MonoTime,
        for_scarcity: bool,
        reclaiming: bool,
        vigil_ms: Option<i64>,
    ) {
        let next_ms = vigil_ms.or(reclaiming.then_some(self.spacing_ms));
        let next = next_ms.map(|ms| now.plus_millis(ms));
        let planned = self.due.filter(|_| !for_scarcity && vigil_ms.is_some());
        self.due = next.map(|next| planned.map_or(next, |planned| planned.min(next)));
        let spacing_ms = vigil_ms.map_or(self.spacing_ms, |ms| ms.min(self.spacing_ms));
        self.opens = now.plus_millis(spacing_ms);
    }

    /// No look was taken, as a kill is waited for: what is due comes after the spacing. Were it to
    /// stay due, it would leave the loop no time to sleep.
    pub fn passed(&mut self, now: MonoTime) {
        if self.is_due(now) {
            self.due = Some(now.plus_millis(self.spacing_ms));
        }
    }

    /// When a look is due without another sign; None for never.
    #[must_use]
    pub const fn due(&self) -> Option<MonoTime> {
        self.due
    }

    /// Whether that moment has come.
    #[must_use]
    pub fn is_due(&self, now: MonoTime) -> bool {
        self.due.is_some_and(|due| now >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(at: u64) -> MonoTime {
        MonoTime::from_millis(at)
    }

    #[test]
    fn the_first_sign_is_let_through_at_once_and_leaves_no_timer() {
        let mut gate = WakeGate::new(100);
        assert!(gate.knock(ms(5)));
        gate.looked(ms(5), true, false, None);
        assert_eq!(gate.due(), None);
    }

    #[test]
    fn a_look_that_cannot_be_taken_now_is_due_later_and_not_all_the_time() {
        let mut gate = WakeGate::new(100);
        gate.looked(ms(5), true, true, None);
        gate.passed(ms(50));
        assert_eq!(gate.due(), Some(ms(105)));
        gate.passed(ms(106));
        assert!(!gate.is_due(ms(106)));
        assert_eq!(gate.due(), Some(ms(206)));
    }

    #[test]
    fn a_sign_too_early_is_held_back_not_forgotten() {
        let mut gate = WakeGate::new(100);
        gate.looked(ms(5), true, false, None);
        assert!(!gate.knock(ms(6)));
        assert!(!gate.knock(ms(104)));
        assert_eq!(gate.due(), Some(ms(105)));
        assert!(!gate.is_due(ms(104)));
        assert!(gate.is_due(ms(105)));
        gate.looked(ms(105), true, false, None);
        assert_eq!(gate.due(), None);
    }

    #[test]
    fn reclaim_that_goes_on_is_looked_at_again() {
        let mut gate = WakeGate::new(100);
        gate.looked(ms(5), true, true, None);
        assert_eq!(gate.due(), Some(ms(105)));
        assert!(gate.knock(ms(105)));
        gate.looked(ms(105), true, false, None);
        assert_eq!(gate.due(), None);
    }

    #[test]
    fn a_vigil_sets_its_own_time_and_a_sign_comes_before_it() {
        let mut gate = WakeGate::new(100);
        gate.looked(ms(0), true, true, Some(700));
        assert_eq!(gate.due(), Some(ms(700)));
        assert!(!gate.knock(ms(50)));
        assert_eq!(gate.due(), Some(ms(100)));
        assert!(gate.knock(ms(100)));
        gate.looked(ms(100), true, true, Some(10));
        assert!(!gate.knock(ms(109)));
        assert!(gate.knock(ms(110)) && gate.is_due(ms(110)));
    }

    #[test]
    fn a_thousand_signs_a_second_make_ten_looks() {
        let mut gate = WakeGate::new(100);
        let mut looks = 0;
        for at in 0..1000 {
            if gate.knock(ms(at)) {
                gate.looked(ms(at), true, false, None);
                looks += 1;
            }
        }
        assert_eq!(looks, 10);
    }
}
