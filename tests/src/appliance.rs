//! Tidegate on the lab's appliance.
