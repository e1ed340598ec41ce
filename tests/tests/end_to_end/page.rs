//! The status page in a browser. `UPDATE_DOCS=1 cargo test -p tidegate-tests --test end_to_end page` also makes the pictures of docs/.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegate_tests::browser::{Browser, Size};
use tidegate_tests::client::resp::Value;
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::load::Load;
use tidegate_tests::plan::Plan;
use tidegate_tests::scene::{Scene, say_skipped};
use tidegate_tests::stage::{Driver, Stage};

const DESKTOP: Size = (1280, 900);
const PHONE: Size = (360, 740);
/// Whether all that a page shows is there.
const READY: &str = "'ready' in document.body.dataset && !('locked' in document.body.dataset)";
/// A name that a configuration may have and a page must not believe.
const HOSTILE: &str = "<img/src=x/onerror=document.body.dataset.owned=1>\u{202e}<script>1</script>";
const TOKEN: &str = "letters-and-digits-0123";

/// The ratio of contrast of the text that is hardest to read, and that text. The Web Content Accessibility Guidelines ask for 4.5.
const CONTRAST: &str = r"(() => {
    const parse = (text) => text.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
        for (let at = element; at !== null; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    let worst = [99, ''];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join('');
        if (own === '' || element.checkVisibility() === false) continue;
        const style = getComputedStyle(element);
        const color = element instanceof SVGElement ? style.fill : style.color;
        const [a, b] = [light(parse(color)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < worst[0]) worst = [ratio, own];
    }
    return worst;
})()";

/// What has no name for those who cannot see it, in words.
const NAMELESS: &str = r"[
    ...[...document.querySelectorAll('table')].filter((t) => !t.getAttribute('aria-label')).map(() => 'a table'),
    ...[...document.querySelectorAll('thead th')].filter((h) => h.scope !== 'col').map((h) => h.textContent),
    ...[...document.querySelectorAll('tbody tr')].filter((r) => r.cells[0].scope !== 'row').map((r) => r.textContent),
    ...[...document.querySelectorAll('svg')].filter((s) => !s.getAttribute('aria-label')).map(() => 'a plot'),
    ...[...document.querySelectorAll('section')].filter((s) => !document.getElementById(s.getAttribute('aria-labelledby'))).map(() => 'a section'),
    ...[...document.querySelectorAll('select, input')].filter((i) => i.labels.length === 0).map(() => 'a field'),
]";

/// The parts that stick out of the page, in words.
const WIDER: &str = r"document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
        .map((e) => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`)";

fn browser() -> Option<Browser> {
    let browser = Browser::start().unwrap_or_else(|error| panic!("{error:?}"));
    if browser.is_none() {
        say_skipped("there is no chromium");
    }
    browser
}

fn page(plan: Plan) -> std::net::SocketAddr {
    plan.extra_pool(0, Family::V4)
}

fn url(scene: &Scene) -> String {
    format!("http://{}/", page(scene.plan()))
}

fn with_page(stage: &dyn Stage) -> LabConfig {
    let config = LabConfig::new(stage, Family::V4);
    config.top(&format!("http_listen = \"{}\"", page(stage.plan())))
}

fn scene(configure: impl FnOnce(&dyn Stage) -> LabConfig) -> Scene {
    let scene = Scene::raise(Driver::Kernel, LabOptions::default(), configure);
    scene.expect("kernel sockets are everywhere")
}

/// Some requests to both pools.
fn some_load(scene: &Scene, requests: usize) {
    scene.on_client(|| {
        for kind in [ServerKind::Redis, ServerKind::Memcached] {
            let load = Load {
                kind,
                targets: vec![scene.plan().pool(kind, Family::V4)],
                connections: 2,
                requests,
                value_bytes: 200,
            };
            assert_eq!(load.run().unwrap().wrong, 0);
        }
    });
}

fn open(browser: &mut Browser, url: &str, size: Size, dark: bool) {
    browser.open(url, size, dark).unwrap();
    browser.wait_until(READY).unwrap();
    // Plots are drawn once there is room for them.
    let drawn = "document.querySelectorAll('path.line').length > 0";
    browser.wait_until(drawn).unwrap();
}

#[test]
fn it_is_readable_on_every_screen_and_in_both_schemes() {
    let Some(mut browser) = browser() else { return };
    let scene = scene(with_page);
    some_load(&scene, 300);
    let mut grounds = Vec::new();
    for size in [DESKTOP, PHONE] {
        for dark in [false, true] {
            open(&mut browser, &url(&scene), size, dark);
            let wider = browser.value(WIDER).unwrap();
            assert_eq!(wider, serde_json::json!([]), "{size:?}");
            let worst = browser.value(CONTRAST).unwrap();
            assert!(worst[0].as_f64().unwrap() >= 4.5, "dark {dark}: {worst}");
            let nameless = browser.value(NAMELESS).unwrap();
            assert_eq!(nameless, serde_json::json!([]));
            let ground = browser.value("getComputedStyle(document.body).backgroundColor");
            grounds.push(ground.unwrap());
            assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
        }
    }
    assert!(grounds[0] == grounds[2] && grounds[0] != grounds[1]);
}

#[test]
fn it_shows_what_the_instance_does() {
    let Some(mut browser) = browser() else { return };
    let mut scene = scene(with_page);
    open(&mut browser, &url(&scene), DESKTOP, false);
    some_load(&scene, 1_000);
    let pill = |words: &str| format!("document.getElementById('health').textContent === '{words}'");
    browser.wait_until(&pill("All well")).unwrap();
    let text = browser.text().unwrap();
    for words in [
        "redis-0",
        "memcached-2",
        "Workers and queues",
        "0 · running",
        "Events",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let asked = "[...document.querySelectorAll('details summary')].every((s) => !s.textContent.startsWith('0 '))";
    browser.wait_until(asked).unwrap();
    let choice = "[...document.getElementById('pool').options].map((o) => o.value).join()";
    assert_eq!(browser.value(choice).unwrap(), ",memcached,redis");
    let worker = scene.appliance.status().unwrap().workers()[0].pid;
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let told = "document.getElementById('events').textContent.includes('killed by SIGKILL')";
    browser.wait_until(told).unwrap();
    assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
    assert!(scene.appliance.end_with(Signal::SIGTERM).unwrap().success());
    browser.wait_until(&pill("No answer")).unwrap();
    let kept = browser.text().unwrap();
    assert!(kept.contains("redis-0"), "what was told stays:\n{kept}");
}

#[test]
fn names_are_only_text() {
    let Some(mut browser) = browser() else { return };
    let scene = scene(|stage| {
        let mut config = with_page(stage);
        for pool in &mut config.pools {
            let (address, _) = pool.servers[0].split_once(' ').unwrap();
            pool.servers[0] = format!("{address} {HOSTILE}");
        }
        // Everything is slow.
        config.every_pool("slowlog_us = 1")
    });
    some_load(&scene, 100);
    scene.on_client(|| {
        let mut client = scene.plan().redis(Family::V4);
        let words = ["SET", HOSTILE, "x"].map(str::as_bytes);
        assert_eq!(client.ask(&words).unwrap(), Value::ok());
    });
    for size in [DESKTOP, PHONE] {
        open(&mut browser, &url(&scene), size, false);
        let text = browser
            .value("document.getElementById('pools').textContent")
            .unwrap();
        let shown = HOSTILE.replace('\u{202e}', "\\u{202e}");
        assert!(text.as_str().unwrap().contains(&shown), "{text}");
        let key = "document.getElementById('slow').textContent.includes('<img/src=x/onerror')";
        browser.wait_until(key).unwrap();
        let harm = "[document.body.dataset.owned ?? null, document.querySelectorAll('main img, body script').length]";
        assert_eq!(browser.value(harm).unwrap(), serde_json::json!([null, 0]));
        assert_eq!(browser.value(WIDER).unwrap(), serde_json::json!([]));
        assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
    }
}

/// The file with the token, which belongs to whoever runs Tidegate.
fn token_file(stage: &dyn Stage) -> PathBuf {
    let file = stage.directory().join("token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        use tidegate_tests::host::NOBODY;
        std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    file
}

#[test]
fn it_asks_for_the_token() {
    let Some(mut browser) = browser() else { return };
    let scene = scene(|stage| {
        let file = token_file(stage);
        with_page(stage).top(&format!("http_token = {{ file = {file:?} }}"))
    });
    browser.open(&url(&scene), PHONE, false).unwrap();
    let asks = "document.activeElement === document.getElementById('token')";
    browser.wait_until(asks).unwrap();
    let text = browser.text().unwrap();
    assert!(!text.contains("redis"), "{text}");
    assert_eq!(browser.value(WIDER).unwrap(), serde_json::json!([]));
    browser.enter("not-the-token-at-all").unwrap();
    let refused = "document.getElementById('token-wrong').textContent !== ''";
    browser.wait_until(refused).unwrap();
    browser.enter(TOKEN).unwrap();
    browser.wait_until(READY).unwrap();
    assert!(browser.text().unwrap().contains("redis-0"));
    let place = browser.value("location.href").unwrap();
    assert!(!place.to_string().contains(TOKEN));
    let log = scene.appliance.log();
    assert!(
        !log.contains(TOKEN) && log.contains("no token or a wrong one"),
        "{log}"
    );
}

/// Load of changing strength until it is told to stop, some of it slow.
fn lively_load(plan: Plan, stop: &AtomicBool) {
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let load = Load {
            kind: ServerKind::Redis,
            targets: vec![plan.pool(ServerKind::Redis, Family::V4)],
            connections: 2 + (round % 30 / 10) as usize,
            requests: 400,
            value_bytes: 200,
        };
        let other = Load {
            kind: ServerKind::Memcached,
            targets: vec![plan.pool(ServerKind::Memcached, Family::V4)],
            connections: 2,
            ..load.clone()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| load.run().unwrap());
            scope.spawn(|| other.run().unwrap());
        });
        if round % 40 == 39 {
            let script = "local n = 0 for i = 1, 1500000 do n = n + i end return n";
            let key = format!("report:{}", round / 40);
            let mut client = plan.redis(Family::V4);
            let words = ["EVAL", script, "1", &key].map(str::as_bytes);
            client.ask(&words).unwrap();
        }
        round += 1;
        std::thread::sleep(Duration::from_millis(20 + 10 * (round % 7)));
    }
}

#[test]
fn pictures_for_the_documentation() {
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    let mut browser = browser().expect("pictures need chromium");
    let mut scene = scene(|stage| {
        let mut config = with_page(stage);
        config.name = "shop".to_owned();
        for (pool, name) in config.pools.iter_mut().zip(["pages", "sessions"]) {
            pool.name = name.to_owned();
            let servers = pool.servers.iter_mut().zip(["a", "b", "c"]);
            for (server, letter) in servers {
                let (address, _) = server.split_once(' ').unwrap();
                *server = format!("{address} {name}-{letter}");
            }
            pool.lines.push("auto_eject_hosts = true".to_owned());
            pool.lines.push("server_failure_limit = 1".to_owned());
        }
        config
    });
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let plan = scene.plan();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| lively_load(plan, &stop));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(170) {
            std::thread::sleep(Duration::from_secs(1));
        }
        let mut pictures = Vec::new();
        for (name, size, dark) in [
            ("page-light.png", (1280, 1280), false),
            ("page-dark.png", (1280, 1280), true),
            ("page-dark-phone.png", (360, 1480), true),
        ] {
            open(&mut browser, &url(&scene), size, dark);
            // Whose machine it was is nobody's business.
            let anyone = "document.getElementById('about').firstChild.data = 'proxy1 · Tidegate'";
            browser.value(anyone).unwrap();
            pictures.push((name, browser.picture(size).unwrap()));
        }
        stop.store(true, Ordering::Relaxed);
        for (name, picture) in pictures {
            assert!(
                picture.len() < 400_000,
                "{name} has {} bytes",
                picture.len()
            );
            fs::write(docs.join(name), picture).unwrap();
        }
    });
    assert!(scene.appliance.end_with(Signal::SIGTERM).unwrap().success());
}
