//! The end of a pass: its actions put in order, at most one of them irreversible, and the resource let go when it is
//! deleted and the application stands safely.

use jiff::Timestamp;
use std::time::Duration;

use super::decision::{Action, Decision};
use super::flip::Shown;
use super::position::Position;
use super::stance::Stance;
use super::{DELETION_BOUND, IN_FLIGHT, Outlook, Pass, account, gates};

impl Pass<'_> {
    pub(super) fn finish(mut self, outlook: &Outlook) -> Decision {
        if !self.world.finalizer && self.world.deleting.is_none() {
            self.actions.insert(0, Action::AddFinalizer);
        }
        self.upkeep.remove_others(self.world);
        let mut wake = self.upkeep.wake;
        let mut once = self.actions.iter().any(Action::irreversible);
        for action in std::mem::take(&mut self.upkeep.actions) {
            if action.irreversible() && std::mem::replace(&mut once, true) {
                wake = Some(Duration::ZERO);
                continue;
            }
            self.actions.push(action);
        }
        if let Some(since) = self.world.deleting
            && self.world.finalizer
        {
            self.depart(since, outlook);
            wake = Some(wake.map_or(IN_FLIGHT, |wake| wake.min(IN_FLIGHT)));
        }
        let account = account::account(&self, outlook);
        let actions = std::mem::take(&mut self.actions);
        Decision { actions, account, wake }
    }

    /// Deletion: once the application stands safely, or the time is up, the resource may go.
    fn depart(&mut self, since: Timestamp, outlook: &Outlook) {
        let overdue = gates::elapsed(since, self.now) >= DELETION_BOUND;
        let settled = match &self.position {
            Position::Untouched => true,
            Position::At { stance, .. } => {
                outlook.next.is_none()
                    && !stance.strict()
                    && *stance != Stance::SourceFirst
                    && matches!(outlook.shown, Some(Shown::Right))
            }
            // Without a Watch nothing was begun by this resource, and nothing will be learned.
            Position::Unread(_) => {
                let begun = self.flipped() && gates::preflight(self.preflight).passed();
                gates::watch(self.world).is_none() && !begun
            }
            Position::Adopt(_) | Position::Flight(_) | Position::Unproved { .. } | Position::Strange(_) => false,
        };
        if !settled && !overdue {
            return;
        }
        let note = match (&self.position, settled) {
            (Position::Untouched, _) => "the application was never flipped".to_owned(),
            (Position::Unread(_), true) => "the mode in the ConfigMap is left as it is".to_owned(),
            (position, settled) => {
                let stays = position.control().map_or_else(
                    || "the application keeps its mode".to_owned(),
                    |control| format!("the application stays at {} (epoch {})", control.mode, control.epoch),
                );
                if settled {
                    stays
                } else {
                    format!(
                        "{stays}: a safer mode was not acknowledged within {}",
                        gates::human(DELETION_BOUND)
                    )
                }
            }
        };
        self.actions = vec![Action::RemoveFinalizer { note }];
    }
}
