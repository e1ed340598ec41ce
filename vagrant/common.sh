# shellcheck shell=bash
# What the scripts of this directory share. Sourced from the repository's root.

# shellcheck source=vagrant/settings
. vagrant/settings

# What the box is made of, as one number: a box of another recipe is an old one.
recipe() {
    cat vagrant/box/* | sha256sum | cut -c1-16
}

# Prints where Vagrant keeps the box; false when it has none.
box_directory() {
    local metadata
    metadata=$(find "${VAGRANT_HOME:-$HOME/.vagrant.d}/boxes/$BOX" -path '*/libvirt/metadata.json' 2>/dev/null | sort | tail -n 1)
    [ -n "$metadata" ] && dirname "$metadata"
}

machine_exists() {
    [ -s vagrant/.vagrant/machines/default/libvirt/id ]
}
