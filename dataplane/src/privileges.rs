//! Gives up every privilege before the first frame is read.
//!
//! After this a worker is an unprivileged user without capabilities, cannot gain any by executing something, and cannot be
//! traced or dumped by other processes of the same user: its memory holds other people's cache.

use caps::CapSet;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getuid, setgroups, setresgid, setresuid};
use tidegate_channel::message::UserIds;

/// Why a privilege could not be given up. The worker does not run then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A system call failed.
    #[error(
        "dropping privileges: {call}: {error}; start `tidegate run` as root or with CAP_SETUID and CAP_SETGID"
    )]
    System {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        error: Errno,
    },
    /// Capabilities could not be read or cleared.
    #[error("dropping capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// Something is left.
    #[error("privileges are left after dropping them: user id {uid}, capabilities {capabilities}")]
    Left {
        /// Effective user.
        uid: u32,
        /// Names of what is left.
        capabilities: String,
    },
}

fn system(call: &'static str) -> impl Fn(Errno) -> PrivilegeError {
    move |error| PrivilegeError::System { call, error }
}

/// Becomes `user`, or stays who it is without one, gives up every capability, and says what was given up.
pub fn drop_privileges(user: Option<&UserIds>) -> Result<String, PrivilegeError> {
    let before = caps::read(None, CapSet::Permitted)?;
    // The bounding set can only be reduced with CAP_SETPCAP; without it there is nothing to lose that no_new_privs below
    // does not already rule out.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        for capability in caps::all() {
            if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    if let Some(user) = user {
        become_user(user, before.contains(&caps::Capability::CAP_SETUID))?;
    }
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set)?;
    }
    prctl::set_no_new_privs().map_err(system("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    prctl::set_dumpable(false).map_err(system("prctl(PR_SET_DUMPABLE)"))?;
    let left = caps::read(None, CapSet::Permitted)?;
    if !left.is_empty() || getuid().is_root() {
        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
        return Err(PrivilegeError::Left {
            uid: getuid().as_raw(),
            capabilities: names.join(" "),
        });
    }
    let who = match user {
        Some(user) => format!("user {} ({}:{}), no groups", user.name, user.uid, user.gid),
        None => format!("user {} as before", getuid()),
    };
    Ok(format!(
        "{who}, {} capabilities given up, no_new_privs, not dumpable",
        before.len()
    ))
}

fn become_user(user: &UserIds, may_become_any: bool) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if getuid() != uid || may_become_any {
        setgroups(&[]).map_err(system("setgroups"))?;
        setresgid(gid, gid, gid).map_err(system("setresgid"))?;
        setresuid(uid, uid, uid).map_err(system("setresuid"))?;
    }
    Ok(())
}
