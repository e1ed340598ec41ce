use super::*;
use crate::host::fake::FakeHost;
use crate::host::fake_pci::{CARD, card};

fn at() -> Address {
    Address::parse(CARD).unwrap()
}

fn now(host: &FakeHost) -> Binding {
    Binding::get(host, &at()).unwrap()
}

/// A card whose interface has all that can be given back.
fn bench(test: &str, driver: &str) -> (FakeHost, Binding) {
    let host = FakeHost::new(&format!("binding-{test}"));
    card(&host, driver);
    let net = host.net_directory(CARD);
    host.file(&format!("{net}/eth2/mtu"), "9000\n");
    let before = now(&host);
    let kept = Kept {
        name: "eth2".into(),
        mtu_bytes: 9_000,
        up: true,
    };
    assert_eq!(
        before,
        Binding {
            driver: Some(driver.into()),
            only: None,
            interfaces: vec![kept],
        }
    );
    (host, before)
}

#[test]
fn a_card_goes_and_comes_back_with_its_interface_as_it_was() {
    for driver in ["i40e", "virtio-pci"] {
        let (host, before) = bench(driver, driver);
        let state = host.state();
        Binding::of_vfio().set(&host, &at()).unwrap();
        assert_eq!(now(&host), Binding::of_vfio());
        assert_eq!(host.index("eth2"), None);
        before.set(&host, &at()).unwrap();
        assert_eq!(now(&host), before);
        assert_eq!(host.state(), state);
    }
}

#[test]
fn an_interface_that_comes_back_with_another_name_gets_its_own() {
    let (host, before) = bench("name", "i40e");
    Binding::of_vfio().set(&host, &at()).unwrap();
    host.slots.borrow_mut().get_mut(CARD).unwrap().interface = "eth0".into();
    before.set(&host, &at()).unwrap();
    assert_eq!(now(&host), before);
    // udev has its time for it, and then it is done without.
    Binding::of_vfio().set(&host, &at()).unwrap();
    host.file("run/udev/control", "");
    before.set(&host, &at()).unwrap();
    assert_eq!(now(&host), before);
}

#[test]
fn a_module_that_is_not_loaded_is_loaded() {
    let (host, _) = bench("module", "i40e");
    std::fs::remove_dir_all(host.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
    std::fs::remove_dir_all(host.path("sys/module/vfio_iommu_type1")).unwrap();
    Binding::of_vfio().set(&host, &at()).unwrap();
    assert_eq!(host.written.borrow()[..2], ["vfio-pci", "vfio_iommu_type1"]);
    assert_eq!(now(&host), Binding::of_vfio());
}

#[test]
fn a_card_that_vfio_does_not_take_is_given_back() {
    let (host, before) = bench("refuses", "i40e");
    host.slots.borrow_mut().get_mut(CARD).unwrap().refuses = true;
    let state = host.state();
    let error = Binding::of_vfio().set(&host, &at()).unwrap_err();
    assert!(
        error.to_string().contains("vfio-pci does not take it"),
        "{error}"
    );
    assert_eq!(now(&host), before);
    assert_eq!(host.state(), state);
}

#[test]
fn every_step_can_be_the_last_one() {
    let steps = [
        "/sys/bus/pci/devices/0000:3b:00.0/driver_override",
        "/sys/bus/pci/devices/0000:3b:00.0/driver/unbind",
        "/sys/bus/pci/drivers_probe",
    ];
    for step in steps {
        let (host, before) = bench("steps", "i40e");
        host.refused.borrow_mut().insert(step.into());
        Binding::of_vfio().set(&host, &at()).unwrap_err();
        host.refused.borrow_mut().clear();
        // As if we had been killed there, without the time to give it back.
        let now = now(&host);
        let back = Binding::way_back(&now, &before, &Binding::of_vfio()).unwrap();
        back.set(&host, &at()).unwrap();
        assert_eq!(super::Binding::get(&host, &at()), Some(before), "{step}");
    }
}

#[test]
fn what_stands_between_the_drivers_is_on_its_way_and_anything_else_is_somebodys() {
    let (_, before) = bench("way", "i40e");
    let after = Binding::of_vfio();
    let state = |driver: Option<&str>, only: Option<&str>| Binding {
        driver: driver.map(str::to_owned),
        only: only.map(str::to_owned),
        interfaces: Vec::new(),
    };
    for now in [
        after.clone(),
        state(None, Some(VFIO)),
        state(None, None),
        state(Some("i40e"), Some(VFIO)),
        state(Some(VFIO), None),
    ] {
        assert_eq!(
            Binding::way_back(&now, &before, &after),
            Some(before.clone()),
            "{now:?}"
        );
    }
    for now in [
        state(Some("uio_pci_generic"), Some(VFIO)),
        state(Some(VFIO), Some("other")),
    ] {
        assert_eq!(Binding::way_back(&now, &before, &after), None, "{now:?}");
    }
    // Back, and used with another MTU since; or stopped on the way, as the driver left it.
    let mut used = before.clone();
    used.interfaces[0].mtu_bytes = 1_500;
    assert_eq!(
        Binding::way_back(&used, &before, &after),
        Some(used.clone())
    );
    used.interfaces[0].up = false;
    assert_eq!(
        Binding::way_back(&used, &before, &after),
        Some(before.clone())
    );
}

#[test]
fn a_card_that_a_process_has_open_stays_there() {
    let (host, before) = bench("taken", "i40e");
    Binding::of_vfio().set(&host, &at()).unwrap();
    host.taken.borrow_mut().insert("/dev/vfio/7".into());
    let error = before.set(&host, &at()).unwrap_err();
    assert!(error.to_string().contains("a process uses it"), "{error}");
    assert_eq!(now(&host), Binding::of_vfio());
}

#[test]
fn a_driver_that_is_gone_and_an_interface_that_does_not_come_are_named() {
    let (host, before) = bench("gone", "i40e");
    Binding::of_vfio().set(&host, &at()).unwrap();
    std::fs::remove_dir_all(host.path("sys/bus/pci/drivers/i40e")).unwrap();
    let error = before.set(&host, &at()).unwrap_err();
    assert!(error.to_string().contains("modprobe i40e"), "{error}");
    host.slots.borrow_mut().get_mut(CARD).unwrap().driver = "none".into();
    crate::host::fake_pci::load(&host, "i40e");
    let error = before.set(&host, &at()).unwrap_err();
    assert!(error.to_string().contains("eth2 is not back"), "{error}");
}

#[test]
fn a_card_without_a_driver_has_none_afterwards() {
    let (host, _) = bench("none", "i40e");
    host.write("/sys/bus/pci/devices/0000:3b:00.0/driver/unbind", CARD)
        .unwrap();
    let before = now(&host);
    assert_eq!(before.to_string(), "no driver");
    Binding::of_vfio().set(&host, &at()).unwrap();
    before.set(&host, &at()).unwrap();
    assert_eq!(now(&host), before);
}
