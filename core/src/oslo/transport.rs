//! The connections of a service.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::{Config, Result, link::Link, rpc::Replies};
use crate::Client;

/// The connection that RPC clients, servers, notifiers and listeners share. Cheap to clone.
///
/// Dropping the last handle closes it; [`Self::close`] waits for that.
#[derive(Clone, Debug)]
pub struct Transport(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub link: Arc<Link>,
    pub replies: OnceCell<Replies>,
    /// The client belongs to the transport, which closes it.
    owns_client: bool,
}

impl Transport {
    /// Connects to the broker of a transport URL, e.g. `rabbit://nova:secret@rabbit-1:5672/`, with the options in its query.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::with_config(Config::from_url(url)?).await
    }

    /// Connects as the configuration says.
    pub async fn with_config(config: Config) -> Result<Self> {
        let client = config.to_client_options()?.connect().await?;
        Ok(Self::of(client, config, true))
    }

    /// A transport over the connections of a client that does other things too. Of the configuration, the options of
    /// connections have no effect. The client stays open when the transport is closed; when the client is closed, the
    /// transport is too.
    ///
    /// [`Error::Invalid`](super::Error::Invalid) for options that exclude each other.
    pub fn over(client: &Client, config: Config) -> Result<Self> {
        config.to_client_options()?;
        Ok(Self::of(client.clone(), config, false))
    }

    fn of(client: Client, config: Config, owns_client: bool) -> Self {
        let link = Arc::new(Link::new(client, config));
        Self(Arc::new(Inner { link, replies: OnceCell::new(), owns_client }))
    }

    /// The client below: its events, its statistics.
    pub fn client(&self) -> &Client {
        &self.0.link.client
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.0.link
    }

    /// Deletes the queue of replies, and closes the connections in order: what was published is confirmed first. Servers and
    /// listeners are stopped before.
    pub async fn close(&self) -> Result<()> {
        if let Some(replies) = self.0.replies.get() {
            replies.delete(self.client()).await;
        }
        if self.0.owns_client {
            self.client().close().await?;
        }
        Ok(())
    }
}
