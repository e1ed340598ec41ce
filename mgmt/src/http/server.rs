//! Accepts connections and serves them, on a thread and a runtime of its own.

use super::board::Board;
use super::limits::{
    ACCEPT_PAUSE, CONNECTION_LIFE, CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_PATIENCE, HEADERS_MAX,
    LOG_INTERVAL,
};
use super::routes::{Shared, router};
use super::{Opened, limits};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Starts the thread. What ends it comes back with it.
pub fn start(opened: Opened, board: Arc<Board>) -> io::Result<(AbortHandle, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let Opened { listener, token } = opened;
    let address = listener.local_addr()?.ip();
    let listener = {
        let _context = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let router = router(Arc::new(Shared::new(board, token, address)));
    let server = runtime.spawn(serve(listener, router));
    let stop = server.abort_handle();
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || {
            // It ends when it is aborted, which is no error.
            let _aborted = runtime.block_on(server);
        })?;
    Ok((stop, thread))
}

async fn serve(listener: TcpListener, router: Router) {
    let mut connections = VecDeque::new();
    let mut logged: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections
                    .retain(|connection: &tokio::task::JoinHandle<()>| !connection.is_finished());
                if connections.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = connections.pop_front()
                {
                    oldest.abort();
                }
                connections.push_back(tokio::spawn(connection(stream, router.clone())));
            }
            Err(error) => {
                if logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
                    logged = Some(Instant::now());
                    tracing::warn!("http: cannot accept: {error}");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    // A reply is written at once; what is left over is not worth waiting for.
    let _unimportant = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if timeout(CONNECTION_LIFE, connection.as_mut()).await.is_err() {
        // Between two requests it ends at once; a reply under way is finished.
        connection.as_mut().graceful_shutdown();
        let _cut_off = timeout(limits::HEADER_PATIENCE, connection).await;
    }
}
