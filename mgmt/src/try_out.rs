//! `tidegate try`: a proxy on loopback from the command line, without a file.
//!
//! The words become the text of a configuration, which goes through the ordinary door. `--print-config` prints it, so that what
//! was tried can be kept.

use crate::log::SetFilter;
use clap::Args;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use tidegate_config::{Config, Protocol, quoted};

/// Where Redis clients connect unless `--listen` says otherwise: twemproxy's port.
const REDIS_LISTEN: &str = "127.0.0.1:22121";
/// Where memcached clients connect.
const MEMCACHED_LISTEN: &str = "127.0.0.1:22122";
/// Client connections. Why fewer than in a file: somebody who tries has no limit of open files for more.
const CLIENTS_MAX: u32 = 1_024;

/// What stands on the command line.
#[derive(Args)]
pub struct TryArgs {
    /// Redis servers, separated by commas: ADDRESS:PORT or ADDRESS:PORT:WEIGHT, or a Unix socket as /PATH:WEIGHT.
    #[arg(
        long,
        value_name = "SERVERS",
        value_delimiter = ',',
        required_unless_present = "memcached"
    )]
    redis: Vec<String>,
    /// memcached servers, written as for --redis.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    memcached: Vec<String>,
    /// Where to listen: ADDRESS:PORT or /PATH. With both protocols twice: first for Redis, then for memcached.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    listen: Vec<String>,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// How a key becomes a number: fnv1a_64, murmur, md5, … as in a configuration.
    #[arg(long, default_value = "fnv1a_64")]
    hash: String,
    /// How a number becomes a server: ketama, modula or random.
    #[arg(long, default_value = "ketama")]
    distribution: String,
    /// Name of the instance; try-PORT without it.
    #[arg(long)]
    name: Option<String>,
    /// Print the configuration, for `tidegate run -c FILE`, and do nothing else.
    #[arg(long)]
    print_config: bool,
}

/// One pool to be.
struct Pool<'a> {
    protocol: &'static str,
    listen: &'a str,
    servers: &'a [String],
}

/// Prints the configuration, or runs it until Ctrl-C.
pub fn run(args: &TryArgs, root: &Path, set_log_filter: SetFilter) -> anyhow::Result<ExitCode> {
    let text = match text(args) {
        Ok(text) => text,
        Err(fault) => {
            crate::faults::print(&[fault]);
            return Ok(ExitCode::FAILURE);
        }
    };
    let config = match Config::parse(&text, "try") {
        Ok(mut config) => {
            config.forget_places();
            config
        }
        Err(errors) => {
            // Lines of a file that nobody has seen would only confuse.
            let faults: Vec<String> = errors.faults.into_iter().map(|fault| fault.what).collect();
            crate::faults::print(&faults);
            return Ok(ExitCode::FAILURE);
        }
    };
    if args.print_config {
        crate::out::print(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let greeting = greeting(&config);
    crate::run::run_and_say(config, None, root, set_log_filter, &greeting)
}

/// The configuration that the words mean.
fn text(args: &TryArgs) -> Result<String, String> {
    let pools = pools(args)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name(pools[0].listen),
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        text,
        "name = {}\n\n[[port]]\ndriver = \"kernel\"\nworkers = {}",
        quoted(&name),
        args.workers
    );
    for pool in &pools {
        let servers: Vec<String> = pool.servers.iter().map(|server| quoted(server)).collect();
        let _infallible = writeln!(
            text,
            "\n[[pool]]\nname = \"{0}\"\nprotocol = \"{0}\"\nlisten = {1}\nservers = [{2}]\nhash = {3}\ndistribution = {4}",
            pool.protocol,
            quoted(pool.listen),
            servers.join(", "),
            quoted(&args.hash),
            quoted(&args.distribution)
        );
    }
    // Nobody would come to adopt them.
    let _infallible = writeln!(
        text,
        "\n[worker]\nclients_max = {CLIENTS_MAX}\noutlive_manager = false"
    );
    Ok(text)
}

fn pools(args: &TryArgs) -> Result<Vec<Pool<'_>>, String> {
    let wanted = [
        ("redis", REDIS_LISTEN, &args.redis),
        ("memcached", MEMCACHED_LISTEN, &args.memcached),
    ];
    let wanted = wanted.iter().filter(|(.., servers)| !servers.is_empty());
    let pools: Vec<Pool<'_>> = wanted
        .enumerate()
        .map(|(index, (protocol, default, servers))| Pool {
            protocol,
            listen: args.listen.get(index).map_or(*default, String::as_str),
            servers,
        })
        .collect();
    let (given, needed) = (args.listen.len(), pools.len());
    if given != 0 && given != needed {
        return Err(format!(
            "--listen names {given} addresses for {needed} pools: one for each of --redis and --memcached, or none for \
             {REDIS_LISTEN} and {MEMCACHED_LISTEN}"
        ));
    }
    if pools.is_empty() {
        return Err("no server: name some with --redis or --memcached".into());
    }
    Ok(pools)
}

/// An instance is named for its first port, so that several can be tried at once.
fn name(listen: &str) -> String {
    let last = listen.rsplit([':', '/']).next().unwrap_or_default();
    let kept = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    format!(
        "try-{}",
        last.chars().filter(kept).take(32).collect::<String>()
    )
}

/// Where it listens, and how to talk to it.
fn greeting(config: &Config) -> String {
    let mut text = String::new();
    for (pool, listen) in config.listeners() {
        let pool = &config.pools[pool];
        let try_it = match (pool.protocol, listen.endpoint.ip()) {
            (Protocol::Redis, Some(at)) => format!("redis-cli -h {} -p {}", at.ip(), at.port()),
            (Protocol::Redis, None) => format!("redis-cli -s {}", listen.endpoint),
            (Protocol::Memcached, Some(at)) => {
                format!(
                    "printf 'version\\r\\nquit\\r\\n' | nc {} {}",
                    at.ip(),
                    at.port()
                )
            }
            (Protocol::Memcached, None) => {
                format!(
                    "printf 'version\\r\\nquit\\r\\n' | nc -U {}",
                    listen.endpoint
                )
            }
        };
        let (name, servers) = (&pool.name, pool.servers.len());
        let of_servers = if servers == 1 { "server" } else { "servers" };
        let _infallible = writeln!(
            text,
            "{name} on {} in front of {servers} {of_servers}: {try_it}",
            listen.endpoint
        );
    }
    let _infallible = writeln!(
        text,
        "`tidegate status --name {}` shows what it does; Ctrl-C ends it.",
        config.name
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> TryArgs {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: TryArgs,
        }
        let words = std::iter::once("try").chain(words.iter().copied());
        Line::try_parse_from(words).unwrap().args
    }

    #[test]
    fn the_words_become_a_configuration() {
        let words = [
            "--redis",
            "127.0.0.1:6379,127.0.0.1:6380:2",
            "--memcached",
            "127.0.0.1:11211",
            "--hash",
            "murmur",
            "--workers",
            "3",
        ];
        let config = Config::parse(&text(&args(&words)).unwrap(), "try").unwrap();
        assert_eq!(config.name, "try-22121");
        assert_eq!(config.kernel_port().unwrap().workers, Some(3));
        assert_eq!(config.pools[0].listen[0].to_string(), REDIS_LISTEN);
        assert_eq!(config.pools[0].servers[1].weight, 2);
        assert_eq!(config.pools[1].listen[0].to_string(), MEMCACHED_LISTEN);
        let greeting = greeting(&config);
        assert!(
            greeting.contains("redis-cli -h 127.0.0.1 -p 22121"),
            "{greeting}"
        );
        assert!(
            greeting.contains("127.0.0.1:22122 in front of 1 server:"),
            "{greeting}"
        );
    }

    #[test]
    fn addresses_have_to_be_one_for_each_protocol() {
        let one = ["--redis", "127.0.0.1:1", "--memcached", "127.0.0.1:2"];
        let mut words = one.to_vec();
        words.extend(["--listen", "127.0.0.1:3"]);
        assert!(
            text(&args(&words))
                .unwrap_err()
                .contains("1 addresses for 2 pools")
        );
        words.extend(["--listen", "/tmp/a.sock"]);
        let config = Config::parse(&text(&args(&words)).unwrap(), "try").unwrap();
        assert_eq!(config.pools[1].listen[0].to_string(), "/tmp/a.sock");
        assert_eq!(config.name, "try-3");
    }

    #[test]
    fn a_quote_in_a_word_stays_a_word() {
        let words = [
            "--redis",
            "127.0.0.1:1\"\nname = \"x",
            "--listen",
            "127.0.0.1:3",
        ];
        let text = text(&args(&words)).unwrap();
        let errors = Config::parse(&text, "try").unwrap_err();
        assert_eq!(errors.faults.len(), 1, "{errors}");
    }
}
