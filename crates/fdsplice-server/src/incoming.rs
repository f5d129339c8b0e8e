//! The decision about a connection that no table routes.

use crate::address::Address;
use crate::route::Route;

/// A connection that was accepted and has no target yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The number of the connection, unique in its server, below 2^53.
    pub id: u64,
    /// The number of the listener that has accepted it.
    pub listener: u32,
    /// The address of the client.
    pub remote_address: Address,
    /// The address that the client has connected to.
    pub local_address: Address,
}

/// The decision about one connection.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It goes to a target of this route.
    Route(Route),
    /// It is refused with [`Refusal::NoRoute`](crate::Refusal::NoRoute).
    Refuse,
    /// No decision was made. It is refused with [`Refusal::RouteFailed`](crate::Refusal::RouteFailed).
    Failed,
}

impl From<Route> for Decision {
    fn from(route: Route) -> Self {
        Self::Route(route)
    }
}

/// `None` refuses the connection.
impl From<Option<Route>> for Decision {
    fn from(route: Option<Route>) -> Self {
        route.map_or(Self::Refuse, Self::Route)
    }
}
