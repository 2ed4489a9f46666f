//! By which way a command came, which is the one that what is told of it goes back by.

use super::state::{
    DocumentResult, DocumentState, MESSAGE_DELIVERY, MESSAGE_GATEWAY, SEND_COMMAND,
    SEND_COMMAND_OFFLINE,
};

/// A way. A document remembers its own, also across a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Route {
    /// The control channel.
    Gateway,
    /// Polls of the message delivery service.
    Delivery,
    /// A file on this host.
    Local,
}

impl Route {
    /// The way of a document.
    pub(super) fn of_state(state: &DocumentState) -> Self {
        Self::of(&state.document_type, &state.upstream_service_name)
    }

    /// The way of a result.
    pub(super) fn of_result(result: &DocumentResult) -> Self {
        Self::of(&result.related_document_type, &result.upstream_service_name)
    }

    fn of(document_type: &str, upstream: &str) -> Self {
        if document_type == SEND_COMMAND_OFFLINE {
            Self::Local
        } else if upstream == MESSAGE_DELIVERY {
            Self::Delivery
        } else {
            Self::Gateway
        }
    }

    /// The type of documents that come by it.
    pub(super) fn document_type(self) -> &'static str {
        match self {
            Self::Gateway | Self::Delivery => SEND_COMMAND,
            Self::Local => SEND_COMMAND_OFFLINE,
        }
    }

    /// The service at its other end.
    pub(super) fn upstream(self) -> &'static str {
        match self {
            Self::Gateway => MESSAGE_GATEWAY,
            Self::Delivery => MESSAGE_DELIVERY,
            Self::Local => "",
        }
    }
}
