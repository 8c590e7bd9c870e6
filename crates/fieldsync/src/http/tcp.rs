//! The options of the TCP connections below HTTP.

#[cfg(any(target_os = "android", target_os = "linux"))]
use std::time::Duration;

use socket2::SockRef;

/// How long a peer may take nothing of what it is sent.
#[cfg(any(target_os = "android", target_os = "linux"))]
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes the kernel takes before it has sent them. What is newer than these is not written yet, and can still be folded.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT_BYTES: u32 = 64 * 1024;

/// Sets the options of a TCP connection. An adapter calls this for each that it accepts, or offers it to the app.
///
/// - Small messages are sent at once (`TCP_NODELAY`).
/// - A peer that takes nothing of what it is sent for 30 s is cut off (`TCP_USER_TIMEOUT`, RFC 5482), whatever it was sent: an event
///   stream, a reply, or what is left after a WebSocket. Linux and Android alone. They count the time during which the peer has no
///   room, so that one that reads 10 KB/s through a buffer of a few KiB is cut off as well, and comes back.
/// - The kernel holds at most 64 KiB that it has not sent (`TCP_NOTSENT_LOWAT`), so that on a slow link news does not wait behind
///   megabytes. Linux and Android alone.
///
/// An option that can't be set is left as it is.
pub fn limit_writes<'a>(connection: impl Into<SockRef<'a>>) {
    let connection = connection.into();
    set_latency(&connection);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = connection.set_tcp_user_timeout(Some(WRITE_TIMEOUT));
}

/// The same for a connection that has become a WebSocket, which counts what its peer takes: the operating system has no limit.
pub fn leave_limit_to_websocket<'a>(connection: impl Into<SockRef<'a>>) {
    let connection = connection.into();
    set_latency(&connection);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = connection.set_tcp_user_timeout(None);
}

fn set_latency(connection: &SockRef<'_>) {
    let _ = connection.set_tcp_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = connection.set_tcp_notsent_lowat(UNSENT_BYTES);
}
