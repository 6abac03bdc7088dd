//! The words that operator, workers and application library share, without kube: modes, sides, directions.
//! Their spelling is the interface: it stands in ConfigMaps, control tables and task resources alike.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A word that is none of those expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found:?}; expected one of {expected}")]
pub struct UnknownWord {
    pub what: &'static str,
    pub found: String,
    pub expected: &'static str,
}

/// Gives a fieldless enum its spelling, once, for text, parsing and serde.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "operator", derive(schemars::JsonSchema))]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }
        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(s: &str) -> Result<Self, UnknownWord> {
                match s {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { what: $what, found: s.to_owned(), expected: $expected }),
                }
            }
        }
    };
}

words!(
    /// The application's write mode: where it writes, in which order, and whose result is the answer.
    Mode, "write-mode", "SRC_ONLY, SRC_FIRST, DST_FIRST, DST_ONLY, SRC_READ_ONLY" {
        /// Writes and reads go to the source alone.
        SrcOnly = "SRC_ONLY",
        /// Source first, then the target; the source's result is the answer.
        SrcFirst = "SRC_FIRST",
        /// Target first, then the source; the target's result is the answer.
        DstFirst = "DST_FIRST",
        /// Writes and reads go to the target alone.
        DstOnly = "DST_ONLY",
        /// The source answers reads; writes are refused.
        SrcReadOnly = "SRC_READ_ONLY",
    }
);

words!(
    /// What a failing second write means for the request.
    SecondaryWrites, "secondary-writes", "Lenient, Strict" {
        /// The request succeeds; the key is queued for repair.
        Lenient = "Lenient",
        /// The request fails, or its outcome is unknown.
        Strict = "Strict",
    }
);

words!(
    /// Which side answers the application's reads.
    ReadFrom, "read-from", "SOURCE, TARGET" { Source = "SOURCE", Target = "TARGET" }
);

words!(
    /// One of the two sides of a migration.
    Side, "side", "source, target" { Source = "source", Target = "target" }
);

words!(
    /// Which side is the base of a piece of work: `Forward` carries source to target, `Reverse` target to source.
    Direction, "direction", "Forward, Reverse" {
        /// The source is the base.
        Forward = "Forward",
        /// The target is the base.
        Reverse = "Reverse",
    }
);

words!(
    /// How an application orders the two commits of a dual write. `Ordered`: it holds the locks of both rows before it
    /// commits either. `Sequential`: it commits one side after the other. In a manifest for `by: Delay` only (default:
    /// `Ordered`); instances state it themselves.
    Protocol, "protocol", "Ordered, Sequential" {
        /// Both sides' rows are locked before either commits.
        Ordered = "Ordered",
        /// One side is committed after the other.
        Sequential = "Sequential",
    }
);

impl Mode {
    /// The side that is right in this mode.
    pub const fn base(self) -> Side {
        match self {
            Self::SrcOnly | Self::SrcFirst | Self::SrcReadOnly => Side::Source,
            Self::DstFirst | Self::DstOnly => Side::Target,
        }
    }

    /// Whether the application writes both sides in this mode.
    pub const fn writes_both(self) -> bool {
        matches!(self, Self::SrcFirst | Self::DstFirst)
    }
}

impl Side {
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Target,
            Self::Target => Self::Source,
        }
    }
}

impl Direction {
    pub const fn base(self) -> Side {
        match self {
            Self::Forward => Side::Source,
            Self::Reverse => Side::Target,
        }
    }

    pub const fn follower(self) -> Side {
        self.base().other()
    }

    pub const fn from_base(base: Side) -> Self {
        match base {
            Side::Source => Self::Forward,
            Side::Target => Self::Reverse,
        }
    }
}

/// The first bytes of a digest, as text for names.
pub fn hex(bytes: &[u8], first: usize) -> String {
    bytes.iter().take(first).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

/// Names of the ConfigMap's keys; an application may choose others (`spec.application.configMapRef.keys`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeKeys {
    pub write_mode: String,
    pub read_from: String,
    pub read_target_percent: String,
    pub secondary_writes: String,
    pub epoch: String,
}

impl Default for ModeKeys {
    fn default() -> Self {
        Self {
            write_mode: "write-mode".to_owned(),
            read_from: "read-from".to_owned(),
            read_target_percent: "read-target-percent".to_owned(),
            secondary_writes: "secondary-writes".to_owned(),
            epoch: "epoch".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_parses_back() {
        for mode in Mode::ALL {
            assert_eq!(mode.as_str().parse::<Mode>().as_ref(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), serde_json::json!(mode.as_str()));
        }
        for direction in Direction::ALL {
            assert_eq!(Direction::from_base(direction.base()), *direction);
            assert_ne!(direction.base(), direction.follower());
        }
    }

    #[test]
    fn a_wrong_word_says_what_was_expected() {
        let error = "DST".parse::<Mode>().unwrap_err().to_string();
        assert!(error.contains("\"DST\"") && error.contains("DST_FIRST"), "{error}");
    }
}
