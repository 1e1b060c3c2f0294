//! How the tests of the command line speak to the binary, and compare what it says.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::Output,
    thread,
};

use serde_json::Value;

use crate::support::daemon::Setup;

/// Exit code, stdout and stderr.
pub fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must end with this code; returns what it said on stdout.
#[track_caller]
pub fn say(setup: &Setup, arguments: &[&str], code: i32) -> String {
    let (found, stdout, stderr) = told(&setup.run(arguments));
    assert_eq!(found, Some(code), "workers {}\n{stdout}\n{stderr}", arguments.join(" "));
    stdout
}

/// Runs a command that must end with this code and say these words on stderr, and nothing on stdout.
#[track_caller]
pub fn complain(setup: &Setup, arguments: &[&str], code: i32, words: &str) {
    let (found, stdout, stderr) = told(&setup.run(arguments));
    assert_eq!((found, stdout.as_str()), (Some(code), ""), "workers {}\n{stderr}", arguments.join(" "));
    assert!(stderr.contains(words), "{words:?} is not in\n{stderr}");
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
}

/// Compares with `tests/cli/expected/NAME.txt`; with `WRITE_EXPECTED` set the file is written instead, so that a change is
/// looked at in the diff.
#[track_caller]
pub fn assert_expected(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/expected/{name}.txt"));
    if std::env::var_os("WRITE_EXPECTED").is_some() {
        fs::write(&path, found).expect("a writable folder");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == found, "{name} differs (WRITE_EXPECTED=1 takes it over):\n{found}\n--- expected\n{expected}");
}

/// The text without what differs from run to run, each replaced by something as long: instants, ids; then folder, port and
/// versions.
pub fn steady(setup: &Setup, text: &str) -> String {
    let folder = setup.folder.path().display().to_string();
    let text = text.replace(&folder, "<folder>").replace(&setup.port.to_string(), "<port>");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "<version>");
    let letters: Vec<char> = text.chars().collect();
    let mut steady = String::new();
    let mut at = 0;
    while at < letters.len() {
        match SHAPES.iter().find(|shape| fits(shape, &letters[at..])) {
            Some(shape) => {
                steady += shape;
                at += shape.len();
            }
            None => {
                steady.push(letters[at]);
                at += 1;
            }
        }
    }
    steady
}

/// `0` stands for any digit, `f` for any digit of base 16; everything else for itself.
const SHAPES: [&str; 3] = ["0000-00-00T00:00:00.000Z", "0000-00-00T00:00:00Z", "ffffffff-ffff-ffff-ffff-ffffffffffff"];

fn fits(shape: &str, letters: &[char]) -> bool {
    let same = |(wanted, found): (char, &char)| match wanted {
        '0' => found.is_ascii_digit(),
        'f' => found.is_ascii_hexdigit(),
        other => *found == other,
    };
    shape.len() <= letters.len() && shape.chars().zip(letters).all(same)
}

/// A service that gives these answers: path, code, body. Anything else is 404. Lives as long as the test's process.
pub fn answering(answers: &'static [(&'static str, u16, &'static str)]) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.find(String::is_empty);
            let path = first.split(' ').nth(1).unwrap_or_default();
            let known = answers.iter().find(|(known, ..)| *known == path);
            let (code, body) = known.map_or((404, "{\"detail\":\"nothing here\"}"), |(_, code, body)| (*code, body));
            let length = body.len();
            // Whoever went away needs no answer.
            let _ = write!(&stream, "HTTP/1.1 {code} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    format!("http://127.0.0.1:{port}")
}
