//! A server on this machine that receives requests and misbehaves when told to.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How long [`Receiver::wait_for`] waits: longer than any test should take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a huge answer is made of, again and again.
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 16 * 1024]);

/// A server on a free port of this machine. It stops when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
    /// When it had arrived whole.
    pub at: Instant,
}

/// How the server answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// With a status and a short body.
    Status(u16),
    /// With a status and a `Retry-After` header.
    Later(u16, &'static str),
    /// With a redirect.
    Redirect(String),
    /// Never.
    Hang,
    /// With a body that never ends.
    Huge,
    /// With a status, and then a body that never comes.
    Stall,
    /// By closing the connection.
    Close,
}

struct Shared {
    manner: Box<dyn Fn(&Received) -> Manner + Send + Sync>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
}

impl Received {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Receiver {
    /// Starts a server that answers each request as `manner` says.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(manner: impl Fn(&Received) -> Manner + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (count, _) = watch::channel(0);
        let shared = Arc::new(Shared { manner: Box::new(manner), received: Mutex::default(), count });
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path (`/hook`) here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What has arrived so far.
    ///
    /// # Panics
    /// When a thread panicked while something arrived.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no holder of this lock panics").clone()
    }

    /// Waits until so many requests have arrived, and gives them.
    ///
    /// # Panics
    /// When they do not arrive within half a minute.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut counted = self.shared.count.subscribe();
        let arrived = tokio::time::timeout(PATIENCE, counted.wait_for(|arrived| *arrived >= count)).await;
        let received = self.received();
        assert!(arrived.is_ok(), "{} of {count} requests arrived within {PATIENCE:?}", received.len());
        received
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(request, &shared));
    // A client that goes away is no failure of the server's.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = head.headers.iter().map(header).collect();
    let received = Received { path: head.uri.path().to_owned(), headers, body, at: Instant::now() };
    let manner = (shared.manner)(&received);
    shared.received.lock().expect("no holder of this lock panics").push(received);
    shared.count.send_modify(|count| *count += 1);
    let short = || Full::new(Bytes::from_static(b"received")).boxed_unsync();
    let (status, header, body) = match manner {
        Manner::Status(status) => (status, None, short()),
        Manner::Later(status, after) => (status, Some(("retry-after", after.to_owned())), short()),
        Manner::Redirect(to) => (307, Some(("location", to)), short()),
        Manner::Hang => std::future::pending().await,
        Manner::Huge => (200, None, endless(stream::repeat(CHUNK))),
        Manner::Stall => (200, None, endless(stream::pending())),
        Manner::Close => return Err(io::Error::other("closed as told")),
    };
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    response.body(body).map_err(io::Error::other)
}

fn endless(chunks: impl futures::Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}
