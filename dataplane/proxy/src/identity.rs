//! What clients say about themselves: a name, and the library they use. Kept in one table, of which only clients that say something
//! take an entry.

use crate::limits::{CLIENT_NAME_BYTES_MAX, LIBRARY_BYTES_MAX};
use crate::proxy::Proxy;
use crate::slab::NIL;

/// A text of at most `N` bytes, kept in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        const { assert!(N <= u8::MAX as usize, "the length is one byte") };
        Self {
            bytes: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Short<N> {
    /// The bytes.
    pub fn get(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Replaces it. False: `text` is too long, and nothing changed.
    #[must_use]
    pub fn set(&mut self, text: &[u8]) -> bool {
        let mut new = Self::default();
        let fits = new.push(text);
        if fits {
            *self = new;
        }
        fits
    }

    /// Appends to it. False: there is no room, and nothing changed.
    #[must_use]
    pub fn push(&mut self, text: &[u8]) -> bool {
        let start = usize::from(self.len);
        let Some(place) = self.bytes.get_mut(start..start + text.len()) else {
            return false;
        };
        place.copy_from_slice(text);
        self.len += text.len() as u8;
        true
    }
}

/// What one client said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    pub name: Short<CLIENT_NAME_BYTES_MAX>,
    pub library: Short<LIBRARY_BYTES_MAX>,
    pub library_version: Short<LIBRARY_BYTES_MAX>,
}

impl Proxy {
    /// What a client said; nothing if it said nothing.
    pub(crate) fn identity(&self, client: u32) -> Identity {
        match self.clients[client as usize].identity {
            NIL => Identity::default(),
            entry => self.identities[entry],
        }
    }

    /// The entry of a client, taken if it has none. There is one for every client.
    pub(crate) fn identity_mut(&mut self, client: u32) -> Option<&mut Identity> {
        let mut entry = self.clients[client as usize].identity;
        if entry == NIL {
            entry = self.identities.take(Identity::default())?;
            self.clients[client as usize].identity = entry;
        }
        Some(&mut self.identities[entry])
    }

    /// Forgets what a client said.
    pub(crate) fn forget_identity(&mut self, client: u32) {
        let entry = std::mem::replace(&mut self.clients[client as usize].identity, NIL);
        if entry != NIL {
            self.identities.give(entry);
        }
    }
}
