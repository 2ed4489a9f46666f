//! The stage of a story: a gateway, an agent and a client on two hosts that a link joins.

use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::host::Host;
use super::link::{Conditions, FAR, Link, NEAR};
use super::programs::World;

/// Longest story, above the longest cut.
const STORY: Duration = Duration::from_secs(180);

/// Who is away: at the far end of the link, while the gateway and the other one are at its near end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    Agent,
    Client,
}

/// See the module. Its story is told on the client's host.
pub struct Stage<'a> {
    pub world: World,
    pub node: String,
    pub link: &'a Link,
    agent: &'a Host,
    /// Address of the agent's host on the link.
    agent_address: &'static str,
}

/// Sets the stage and tells a story on it.
pub fn tell(away: Away, conditions: Conditions, story: impl AsyncFnOnce(Stage<'_>) + Send) {
    let [near, far] = [Host::new(), Host::new()];
    let link = Link::between(&near, &far, conditions);
    let world = near.run(|| World::start_on(&format!("{NEAR}:0")));
    let (client, agent, agent_address) = match away {
        Away::Agent => (&near, &far, FAR),
        Away::Client => (&far, &near, NEAR),
    };
    let told = client.run(|| {
        runtime().block_on(async {
            let stage = Stage::set(world, &link, agent, agent_address).await;
            timeout(STORY, story(stage)).await
        })
    });
    told.expect("the story comes to its end");
}

impl<'a> Stage<'a> {
    async fn set(
        mut world: World,
        link: &'a Link,
        agent: &'a Host,
        agent_address: &'static str,
    ) -> Self {
        let (id, code) = world.activation().await;
        let node = agent.run(|| world.register_with(&id, &code));
        agent.run(|| world.start_agent());
        world.wait_connected(&node).await;
        Self {
            world,
            node,
            link,
            agent,
            agent_address,
        }
    }

    /// A server on the agent's host, for sessions and for plain connections over the link.
    pub fn listen(&self) -> TcpListener {
        let listener = self.agent.run(|| std::net::TcpListener::bind("0.0.0.0:0"));
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    /// Connects to a server of [`Stage::listen`] over the link, without a session. Returns the
    /// client's end and the server's.
    pub async fn connect(&self, server: &TcpListener) -> [TcpStream; 2] {
        let port = server.local_addr().unwrap().port();
        let address = SocketAddr::new(self.agent_address.parse().unwrap(), port);
        join(address, server).await
    }
}

/// Connects to `address`, which leads to `server`. Returns the client's end and the server's.
pub async fn join(address: SocketAddr, server: &TcpListener) -> [TcpStream; 2] {
    let (near, far) = tokio::join!(TcpStream::connect(address), server.accept());
    let ends = [near.unwrap(), far.unwrap().0];
    for end in &ends {
        end.set_nodelay(true).unwrap();
    }
    ends
}

/// Stories that mostly wait hold this; there may be several of them at a time.
pub fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Stories that measure hold this, and have the machine for themselves.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

static MACHINE: RwLock<()> = RwLock::new(());

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
