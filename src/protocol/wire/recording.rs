//! The record of a session on its way from the agent to a gateway that announced that it stores it.
//!
//! | request, signed by the node | answer |
//! |---|---|
//! | `PUT /v1/recordings/<session>?offset=<bytes>&entries=<number>` | 200, the part is stored |
//! | the same with `&complete=true` | 200, and nothing can follow |
//! | either, with an offset that is not where the stored record ends | 409, nothing is stored |
//!
//! The body is the next bytes of the cast, at most [`PART_LIMIT`], possibly none. Both answers are
//! the JSON of a [`Progress`], so an agent whose answer was lost, or which was started anew, asks with
//! what it knows and goes on from where the gateway stands. A part is stored whole or not at all.
//!
//! | other answers | meaning |
//! |---|---|
//! | 403 | the session runs on another node |
//! | 404 | no such session, and there never will be |
//! | 410 | the stored record was changed or removed behind the gateway's back |
//! | 413 | the part, or with it the record, is larger than the gateway takes |
//! | 507 | no room now; older records and full disks go away |

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec::to_json;

/// Largest part in bytes. A gateway holds one part of each upload under way in memory.
pub const PART_LIMIT: usize = 1 << 20;

/// Where a part belongs: the query of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the cast before the part.
    pub offset: u64,
    /// Entries of the session that the cast holds with the part. It is the agent's own count, which
    /// the gateway keeps for it.
    pub entries: u64,
    /// The session ended, and this is the last part.
    pub complete: bool,
}

/// A query does not say where a part belongs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// A member is missing.
    #[error("the query has no {0}")]
    Missing(&'static str),
    /// A member is there more than once.
    #[error("the query has {0} twice")]
    Repeated(&'static str),
    /// A member has a value that it cannot have.
    #[error("{0} has the value {1:?}")]
    Invalid(&'static str, String),
}

impl Part {
    /// Reads a query. Members that it does not know are left alone.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn decode(query: &str) -> Result<Self, PartError> {
        let member = |name| {
            let mut values = url::form_urlencoded::parse(query.as_bytes())
                .filter_map(|(key, value)| (key == name).then(|| value.into_owned()));
            let value = values.next();
            match values.next() {
                Some(_) => Err(PartError::Repeated(name)),
                None => Ok(value),
            }
        };
        let number = |name| {
            let text = member(name)?.ok_or(PartError::Missing(name))?;
            text.parse().map_err(|_| PartError::Invalid(name, text))
        };
        Ok(Self {
            offset: number("offset")?,
            entries: number("entries")?,
            complete: match member("complete")?.as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => return Err(PartError::Invalid("complete", other.to_owned())),
            },
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            entries,
            complete,
        } = self;
        write!(f, "offset={offset}&entries={entries}")?;
        if *complete {
            write!(f, "&complete=true")?;
        }
        Ok(())
    }
}

/// How much of a record the gateway has stored for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Progress {
    /// Bytes of the cast.
    pub bytes: u64,
    /// Entries that the cast holds, by the agent's count.
    pub entries: u64,
    /// Whether the last part is there.
    pub complete: bool,
}

impl Progress {
    /// The JSON form.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_is_written_as_a_query_that_names_completion_only_at_the_end() {
        let part = Part {
            offset: 10,
            entries: 2,
            complete: false,
        };
        let last = Part {
            complete: true,
            ..part
        };

        assert_eq!(part.to_string(), "offset=10&entries=2");
        assert_eq!(last.to_string(), "offset=10&entries=2&complete=true");
        for part in [part, last] {
            assert_eq!(Part::decode(&part.to_string()), Ok(part));
        }
    }

    #[test]
    fn query_that_leaves_a_doubt_is_refused() {
        let invalid = |name, text: &str| PartError::Invalid(name, text.to_owned());
        for (query, error) in [
            ("", PartError::Missing("offset")),
            ("offset=1", PartError::Missing("entries")),
            ("offset=1&entries=2&offset=1", PartError::Repeated("offset")),
            ("offset=-1&entries=2", invalid("offset", "-1")),
            (
                "offset=18446744073709551616&entries=2",
                invalid("offset", "18446744073709551616"),
            ),
            (
                "offset=1&entries=2&complete=yes",
                invalid("complete", "yes"),
            ),
        ] {
            assert_eq!(Part::decode(query), Err(error), "{query}");
        }
        assert!(Part::decode("offset=%31&entries=2&later=x").is_ok());
    }

    #[test]
    fn progress_survives_its_json() {
        let progress = Progress {
            bytes: 7,
            entries: 1,
            complete: true,
        };

        let json = progress.encode();

        assert_eq!(json, br#"{"Bytes":7,"Entries":1,"Complete":true}"#);
        assert_eq!(serde_json::from_slice::<Progress>(&json).unwrap(), progress);
        assert!(serde_json::from_slice::<Progress>(b"{}").is_err());
    }
}
