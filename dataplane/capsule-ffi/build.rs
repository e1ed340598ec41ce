//! Generates the bindings from the headers of the DPDK that is installed, and compiles what those headers have only as inline
//! functions.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

/// The one release this crate was written for: its ABI (23) is stable, the names that capsule needs are not.
const DPDK_VERSION: std::ops::Range<&str> = "22.11".."23.0";

/// EAL loads drivers by itself, so only the libraries that are called are linked.
const LIBRARIES: [&str; 6] = [
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_kvargs",
    "rte_eal",
];

const FUNCTIONS: [&str; 9] = [
    "_rte_.*",
    "rte_(strerror|socket_id|socket_count|socket_id_by_idx|thread_register)",
    "rte_(eal_cleanup|log_set_global_level|log_set_level_pattern)",
    "rte_(pktmbuf_pool_create|mempool_free|mempool_in_use_count|mempool_avail_count|mempool_lookup)",
    "rte_eth_dev_(socket_id|get_port_by_name|info_get|adjust_nb_rx_tx_desc|start|stop|close|get_mtu)",
    "rte_eth_(macaddr_get|link_get_nowait|stats_get|xstats_get|xstats_get_names|[rt]x_queue_setup)",
    "rte_eth_(promiscuous|allmulticast)_(enable|disable)",
    "rte_eth_dev_rss_(hash_update|hash_conf_get|reta_update|reta_query)",
    "tidegate_.*",
];

const TYPES: [&str; 11] = [
    "rte_mbuf",
    "rte_mempool",
    "rte_eth_conf",
    "rte_eth_dev_info",
    "rte_eth_stats",
    "rte_eth_xstat(_name)?",
    "rte_ether_addr",
    "rte_cpuset_t",
    "rte_eth_rss_conf",
    "rte_eth_rss_reta_entry64",
    "rte_eth_link",
];

const CONSTANTS: [&str; 4] = [
    "TIDEGATE_.*",
    "RTE_MBUF_DEFAULT_BUF_SIZE",
    "RTE_MAX_LCORE",
    "RTE_ETH_RETA_GROUP_SIZE",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in ["build.rs", "src/shim.h", "src/shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let dpdk = pkg_config::Config::new()
        .range_version(DPDK_VERSION)
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|error| {
            format!("the feature `dpdk` needs DPDK 22.11 and clang (Debian: libdpdk-dev, pkg-config, clang, libclang-dev): {error}")
        })?;
    let flags = compiler_flags()?;
    compile_shim(&flags);
    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    generate_bindings(&flags)
}

/// As pkg-config prints them: the crate of that name drops `-march` and `-include`, without which the headers mean something
/// else.
fn compiler_flags() -> Result<Vec<String>, Box<dyn Error>> {
    let output = Command::new("pkg-config")
        .args(["--cflags", "libdpdk"])
        .output()?;
    let flags = String::from_utf8(output.stdout)?;
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

fn compile_shim(flags: &[String]) {
    let mut shim = cc::Build::new();
    shim.file("src/shim.c").opt_level(3);
    for flag in flags {
        shim.flag(flag);
    }
    shim.compile("capsule_ffi_shim");
}

fn generate_bindings(flags: &[String]) -> Result<(), Box<dyn Error>> {
    let mut builder = bindgen::Builder::default()
        .header("src/shim.h")
        .clang_args(flags)
        .derive_default(true)
        .derive_copy(true)
        .generate_cstr(true)
        .generate_comments(false)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        // capsule writes `rte_eth_rx_mq_mode::NAME`.
        .newtype_enum("rte_eth_rx_mq_mode")
        // Packed structures within aligned ones, which Rust has no words for; nobody looks into them.
        .opaque_type("rte_(arp|ether|ipv4|ipv6|l2tpv2|ppp|ecpri|gtp|flow).*hdr.*")
        .wrap_unsafe_ops(true);
    for pattern in FUNCTIONS {
        builder = builder.allowlist_function(pattern);
    }
    for pattern in TYPES {
        builder = builder.allowlist_type(pattern);
    }
    for pattern in CONSTANTS {
        builder = builder.allowlist_var(pattern);
    }
    let file = PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs");
    builder.generate()?.write_to_file(file)?;
    Ok(())
}
