//! Port sessions: TCP connections and Unix sockets of this host, or of others that it reaches, for a
//! client elsewhere.
//!
//! ```text
//!                  +--> multiplexed: stream, stream, ... --+
//!  data channel <--+                                        +--> socket --> destination
//!                  +--> single: raw (SSH), one by one ------+
//! ```
//!
//! `properties` reads the document; `destination` resolves the target once, past the `deny_list`,
//! and dials it; `multiplexed` drives many connections; `single` does with one at a time; `account`
//! knows one of them, `ledger` tells the audit log.

mod account;
mod deny_list;
mod destination;
mod ledger;
mod multiplexed;
mod network;
mod properties;
mod single;

use tokio::select;
use tracing::debug;

use self::destination::Destination;
use self::multiplexed::Multiplexed;
use self::single::{Manner, Single};
use super::connection::{Connection, News};
use super::end::End;
use super::outcome::Outcome;
use super::task::Session;
use crate::protocol::wire::version::ClientGates;
use crate::runtime::cause::in_one_line;
use crate::transport::Connector;

pub use deny_list::DenyList;
pub use network::{Network, Networks};
pub(super) use properties::{Port, PropertiesError};

/// Session type of port documents.
pub(super) const SESSION_TYPE: &str = "Port";

/// Runs a port session to its end.
pub(super) async fn run<C: Connector>(port: Port, session: Session, connector: C) -> Outcome {
    let id = session.start.session_id.clone();
    let mut connection = Connection::open(&session, connector, port.handshake());
    let end = match open(&port, &session, &mut connection).await {
        Ok((destination, gates)) => {
            forward(&port, &session, &mut connection, destination, gates).await
        }
        Err(end) => end,
    };
    debug!(?end, "the session is over");
    if end.leaves_somebody() {
        connection.close(Vec::new(), &session.cancel).await;
    } else {
        connection.abort().await;
    }
    end.outcome(id)
}

/// Finds the destination while the data channel is being dialled and the client asked.
async fn open(
    port: &Port,
    session: &Session,
    connection: &mut Connection,
) -> Result<(Destination, ClientGates), End> {
    let settings = &session.context.settings;
    let (denied, networks) = (&settings.denied_destinations, &settings.networks);
    let mut resolving = std::pin::pin!(Destination::resolve(&port.target, denied, networks));
    let mut destination = None;
    let mut gates = None;
    loop {
        if let Some(gates) = gates
            && let Some(destination) = destination.take()
        {
            return Ok((destination, gates));
        }
        // What comes after the handshake is for the destination.
        let news = select! {
            () = session.cancel.cancelled() => return Err(End::of_cancelled(session)),
            resolved = &mut resolving, if destination.is_none() => {
                let resolved = resolved.map_err(|error| End::NotStarted(in_one_line(&error)))?;
                destination = Some(resolved);
                continue;
            }
            news = connection.inbox.news(), if gates.is_none() => news,
            () = connection.over.cancelled(), if gates.is_some() => {
                return Err(connection.inbox.end().await);
            }
        };
        match news {
            News::Connected => connection.announce().await,
            News::Open { client_version } => gates = Some(ClientGates::of(&client_version)),
            News::Leave => return Err(End::Left),
            News::Closed => return Err(End::Closed),
            News::Lost(reason) => return Err(End::Lost(reason)),
            News::Input(_) | News::Size(_) | News::Flag(_) | News::Nothing => {}
        }
    }
}

async fn forward(
    port: &Port,
    session: &Session,
    connection: &mut Connection,
    destination: Destination,
    gates: ClientGates,
) -> End {
    let manner = match (port.is_forwarding, gates.mux) {
        (true, true) => {
            let streams = Multiplexed::new(session, connection, destination, gates);
            return streams.run().await;
        }
        (true, false) => Manner::InTurn,
        (false, _) => Manner::Raw,
    };
    Single::new(session, connection, destination, manner)
        .run()
        .await
}
