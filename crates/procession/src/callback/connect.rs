//! From a host to a connection. A name is resolved once; where the config does not fix the
//! host, each of its addresses is judged, and one of those very addresses is connected to. So
//! a name that means another address a moment later leads nowhere.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use procession_core::target::Target;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::address::refusal;
use super::post::Failure;

/// Whom a callback may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The host is the config's own word: also this machine and its networks.
    Anywhere,
    /// A client had part in the URL: only public addresses.
    Public,
}

/// A connection to the host of `target`, made by `until`.
pub(super) async fn connect(target: &Target, reach: Reach, until: Instant) -> Result<TcpStream, Failure> {
    let addresses = resolve(target, reach).await?;
    let mut last = None;
    for (n, address) in addresses.iter().enumerate() {
        // One that never answers leaves the others their share of the time.
        let share = until.saturating_duration_since(Instant::now()) / (addresses.len() - n) as u32;
        match attempt(*address, share).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(Failure::Connect { address: *address, error }),
        }
    }
    Err(last.unwrap_or_else(|| nowhere(target)))
}

/// All addresses of the host, if none is refused: who controls the name must not have the
/// choice which of them is judged.
async fn resolve(target: &Target, reach: Reach) -> Result<Vec<SocketAddr>, Failure> {
    let found = lookup_host((target.host.as_str(), target.port)).await;
    let found = found.map_err(|error| Failure::Resolve { host: target.host.clone(), error })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if reach == Reach::Public {
        judge(target, &addresses)?;
    }
    Ok(addresses)
}

fn judge(target: &Target, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let refused = |address: &SocketAddr| Some((address.ip(), refusal(address.ip())?));
    match addresses.iter().find_map(refused) {
        Some((address, what)) => Err(Failure::Forbidden { host: target.host.clone(), address, what }),
        None => Ok(()),
    }
}

fn nowhere(target: &Target) -> Failure {
    Failure::Resolve { host: target.host.clone(), error: io::Error::other("it has no address") }
}

async fn attempt(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let connected = timeout(within, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(addresses: &[&str]) -> Result<(), Failure> {
        let target: Target = "http://example.org/".parse().expect("a URL");
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().expect(text)).collect();
        judge(&target, &addresses)
    }

    #[test]
    fn f37_one_refused_address_among_public_ones_refuses_the_host() {
        assert!(judged(&["93.184.216.34:80", "[2606:4700::1111]:80"]).is_ok());
        for bad in ["127.0.0.1:80", "[::1]:80", "[::ffff:10.0.0.1]:80", "169.254.169.254:80"] {
            assert!(matches!(judged(&["93.184.216.34:80", bad]), Err(Failure::Forbidden { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn f37_every_way_to_write_this_machine_is_refused_where_a_client_has_part() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[::]",
            "10.0.0.1",
            "169.254.169.254",
            "[fd00:ec2::254]",
        ] {
            let target: Target = format!("http://{host}:9/").parse().expect("a URL");
            match resolve(&target, Reach::Public).await {
                Err(Failure::Forbidden { .. }) => {}
                // A resolver that does not know such a form has not reached anybody either.
                Err(Failure::Resolve { .. }) if host.parse::<std::net::IpAddr>().is_err() => {}
                other => panic!("{host}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_the_config_fixes_may_be_this_machine() {
        let target: Target = "http://127.0.0.1:9/".parse().expect("a URL");
        let found = resolve(&target, Reach::Anywhere).await.expect("an address");
        assert_eq!(found, ["127.0.0.1:9".parse().expect("an address")]);
    }
}
