//! Lists of slots that a pass looks at.

/// Numbers of slots, each at most once; who is in it is told by a flag of the slot. Two vectors take turns, so that a pass
/// over one can fill the other.
#[derive(Default)]
pub(crate) struct Marked {
    slots: Vec<u32>,
    pass: Vec<u32>,
}

impl Marked {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: Vec::with_capacity(slots),
            pass: Vec::with_capacity(slots),
        }
    }

    pub(crate) fn push(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is marked now, to be given back with [`Self::finish`].
    pub(crate) fn begin(&mut self) -> Vec<u32> {
        std::mem::replace(&mut self.slots, std::mem::take(&mut self.pass))
    }

    pub(crate) fn finish(&mut self, mut pass: Vec<u32>) {
        pass.clear();
        self.pass = pass;
    }
}
