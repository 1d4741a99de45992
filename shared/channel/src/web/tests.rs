//! Whom a tenant may have us ask, and whom not, in every way that an address can be written or a name can answer.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::str::FromStr as _;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// The first byte of what a client of TLS says: <https://www.rfc-editor.org/rfc/rfc8446#appendix-B.1>.
const TLS_HANDSHAKE: u8 = 22;

/// A server that gives the requests that it read, and answers each with the same bytes, after which it hangs up.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Receiver<String>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "a server that outlives its test harms nobody")]
    pub(crate) fn answering(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (told, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut reader = BufReader::new(&mut stream);
                // Somebody who wants to speak TLS is answered all the same.
                let greeting = reader.fill_buf().expect("a greeting");
                let skipped = if greeting.first() == Some(&TLS_HANDSHAKE) { greeting.len() } else { 0 };
                reader.consume(skipped);
                let mut head = if skipped == 0 { String::new() } else { "\r\n\r\n".to_owned() };
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).expect("a head") > 0 {}
                let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).and_then(|it| it.parse().ok()).unwrap_or(0);
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                // The test, and the client, may have had enough.
                let _ = told.send(head + &String::from_utf8_lossy(&body));
                let _ = stream.write_all(&answer);
            }
        });
        Self { port, requests }
    }

    pub(crate) fn with(http: &str, body: &str) -> Self {
        Self::answering(format!("HTTP/1.1 {http}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }

    pub(crate) fn request(&self) -> String {
        self.requests.recv().expect("a request came")
    }
}

/// Names that answer with each of these in turn, and then are not found.
struct Answers(Mutex<VecDeque<Vec<SocketAddr>>>);

impl Answers {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let address = |it: &&str| SocketAddr::new(it.parse().expect("an address"), 0);
        Arc::new(Self(Mutex::new(answers.iter().map(|them| them.iter().map(address).collect()).collect())))
    }

    fn left(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }
}

impl Resolve for Answers {
    fn resolve(&self, _: Name) -> Resolving {
        let answer = self.0.lock().expect("no panic").pop_front();
        Box::pin(async move { answer.map(|it| Box::new(it.into_iter()) as Addrs).ok_or_else(|| "no such name".into()) })
    }
}

fn settings(allow_loopback: bool) -> WebSettings {
    WebSettings { allow_loopback, connect_timeout: Duration::from_secs(10) }
}

/// A client of the local stack.
pub(crate) fn web() -> Web {
    Web::new(&settings(true)).expect("a client")
}

fn refused(text: &str) -> Option<AddressError> {
    Address::parse(text, false).err()
}

async fn post(web: &Web, address: &str) -> Result<Answer, WebError> {
    let address = web.address(address).expect("an address");
    web.post_json(&address, &[], b"{}".to_vec(), Duration::from_secs(10)).await
}

#[test]
fn a_public_address_is_taken_however_it_is_written() {
    for (text, normalised) in [
        ("https://agent.example/turns?key=1", "https://agent.example/turns?key=1"),
        ("https://agent.example:443", "https://agent.example/"),
        ("HTTPS://Agent.Example./", "https://agent.example./"),
        ("https://bücher.example", "https://xn--bcher-kva.example/"),
        ("https://localhost.example", "https://localhost.example/"),
        ("https://notlocalhost.com", "https://notlocalhost.com/"),
        ("https://8.8.8.8", "https://8.8.8.8/"),
        ("https://134744072", "https://8.8.8.8/"),
        ("https://192.0.1.255", "https://192.0.1.255/"),
        ("https://172.32.0.0", "https://172.32.0.0/"),
        ("https://100.128.0.0", "https://100.128.0.0/"),
        ("https://223.255.255.255", "https://223.255.255.255/"),
        ("https://[2606:4700::1111]", "https://[2606:4700::1111]/"),
        ("https://[::ffff:8.8.8.8]", "https://[::ffff:808:808]/"),
        ("https://[64:ff9b::8.8.8.8]", "https://[64:ff9b::808:808]/"),
        ("https://[2002:808:808::]", "https://[2002:808:808::]/"),
    ] {
        assert_eq!(Address::parse(text, false).as_ref().map(Address::as_str), Ok(normalised), "{text}");
    }
}

#[test]
fn no_address_that_is_not_public_is_taken_in_any_form() {
    let hosts = [
        // Loopback, whole, short, decimal, octal, hexadecimal, mixed, escaped, in other digits and dots.
        "127.0.0.1 127.255.255.254 127.1 127.0.1 2130706433 0177.0.0.1 017700000001 0x7f.0.0.1 0x7f000001 0x7F.1 127.0.0.1. %31%32%37.0.0.1",
        "①②⑦.0.0.1 127。0。0。1",
        // This network, private use, a carrier's NAT.
        "0 0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 0xa000001 012.0.0.1 172.16.0.0 172.31.255.255 192.168.0.1 3232235521 192.168.1",
        "100.64.0.0 100.100.100.200 100.127.255.255",
        // Link-local: the metadata of AWS and others.
        "169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.170.2 169.16689662",
        // Protocols, documentation, relays, benchmarks, multicast, reserved, broadcast.
        "192.0.0.0 192.0.0.9 192.0.0.170 192.0.2.1 198.51.100.1 203.0.113.1 192.88.99.1 198.18.0.0 198.19.255.255",
        "224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.255 4294967295",
        // IPv6: unspecified, loopback, unique local (the metadata of AWS), link-local, site-local, multicast, what is given to nobody.
        "[::] [::1] [0:0:0:0:0:0:0:1] [fc00::1] [fd00:ec2::254] [fdff::] [fe80::1] [febf::1] [fec0::1] [ff02::1] [4000::1] [1fff::1]",
        // Of IPv4 within: mapped, compatible, translated (here and in networks of one's own), tunnelled.
        "[::ffff:127.0.0.1] [::ffff:a9fe:a9fe] [::ffff:10.0.0.1] [::127.0.0.1] [::8.8.8.8] [::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::8.8.8.8] [2002:7f00:1::] [2002:a9fe:a9fe::1] [2002:c0a8:1::1]",
        // Discarded, dummy, Teredo, ORCHID, protocols, documentation, segments.
        "[100::1] [100:0:0:1::1] [2001::1] [2001:0:7f00:1::] [2001:10::1] [2001:20::1] [2001:1ff::1] [2001:db8::1] [3fff::1] [3fff:fff::1]",
        "[5f00::1]",
        // Names of this machine, and of the networks nearby.
        "localhost LOCALHOST localhost. agent.localhost a.b.localhost. metadata intranet intranet.",
    ];
    for host in hosts.into_iter().flat_map(|it| it.split(' ')) {
        assert_eq!(refused(&format!("https://{host}/")), Some(AddressError::Private), "{host}");
        assert_eq!(refused(&format!("https://{host}:8443/")), Some(AddressError::Private), "{host}");
        assert!(Address::parse(&format!("http://{host}/"), false).is_err(), "{host}");
    }
}

#[test]
fn the_neighbours_of_a_range_are_public() {
    for ip in [
        "9.255.255.255 11.0.0.0 100.63.255.255 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 191.255.255.255",
        "192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0",
        "203.0.112.255 203.0.114.0 1.0.0.0 2001:200:: 2001:db7:ffff:: 2001:db9:: 2003:: 2000:: 3fff:1000:: 3ffe:ffff::",
    ]
    .into_iter()
    .flat_map(|it| it.split(' '))
    {
        assert!(is_public(ip.parse().expect("an address")), "{ip}");
    }
}

#[test]
fn an_address_is_https_at_its_own_port_and_names_no_user() {
    for (text, error) in [
        ("", AddressError::NotUnderstood),
        ("agent.example/turns", AddressError::NotUnderstood),
        ("https://", AddressError::NotUnderstood),
        ("https://agent.example:99999", AddressError::NotUnderstood),
        ("https://1.2.3.4.5", AddressError::NotUnderstood),
        ("https://[fe80::1%25eth0]", AddressError::NotUnderstood),
        ("data:text/plain,x", AddressError::NotUnderstood),
        ("file:///etc/passwd", AddressError::NotUnderstood),
        ("http://agent.example", AddressError::NotHttps),
        ("ftp://agent.example", AddressError::NotHttps),
        ("wss://agent.example", AddressError::NotHttps),
        ("gopher://8.8.8.8", AddressError::NotHttps),
        ("https://agent.example:80", AddressError::OtherPort),
        ("https://agent.example:8443", AddressError::OtherPort),
        ("https://user@agent.example", AddressError::HasUser),
        ("https://user:password@agent.example", AddressError::HasUser),
        ("https://:password@agent.example", AddressError::HasUser),
        ("https://agent.example@127.0.0.1", AddressError::HasUser),
        ("https://127.0.0.1#@agent.example", AddressError::Private),
        ("https://127.0.0.1\\@agent.example", AddressError::Private),
        ("https://127.0.0.1?@agent.example", AddressError::Private),
    ] {
        assert_eq!(refused(text), Some(error), "{text}");
    }
}

#[test]
fn this_machine_is_taken_where_that_is_allowed_and_nothing_else_is() {
    for text in ["http://127.0.0.1:8080/turns", "http://localhost:1", "http://[::1]:1", "https://127.1", "http://agent.localhost."] {
        assert!(Address::parse(text, true).is_ok(), "{text}");
    }
    for (text, error) in [
        ("http://10.0.0.1", AddressError::NotHttps),
        ("https://10.0.0.1", AddressError::Private),
        ("https://169.254.169.254", AddressError::Private),
        ("https://0.0.0.0", AddressError::Private),
        ("https://[::ffff:127.0.0.1]", AddressError::Private),
        ("http://agent.example", AddressError::NotHttps),
        ("https://agent.example:8443", AddressError::OtherPort),
        ("http://user@127.0.0.1", AddressError::HasUser),
        ("ftp://127.0.0.1", AddressError::NotHttps),
    ] {
        assert_eq!(Address::parse(text, true), Err(error), "{text}");
    }
}

#[tokio::test]
async fn a_name_is_refused_if_any_of_its_addresses_is_not_public() {
    let cases: [(&[&str], bool); 10] = [
        (&["8.8.8.8"], true),
        (&["8.8.8.8", "2606:4700::1111"], true),
        (&["127.0.0.1"], false),
        (&["8.8.8.8", "10.0.0.1"], false),
        (&["10.0.0.1", "8.8.8.8"], false),
        (&["8.8.8.8", "::1"], false),
        (&["::ffff:169.254.169.254"], false),
        (&["fd00:ec2::254"], false),
        (&["100.64.0.1"], false),
        (&["64:ff9b::7f00:1"], false),
    ];
    for (answer, is_taken) in cases {
        let names = PublicOnly { names: Answers::of(&[answer]), allow_loopback: false };
        let found = names.resolve(Name::from_str("agent.example").expect("a name")).await;
        let expected: Vec<IpAddr> = answer.iter().map(|it| it.parse().expect("an address")).collect();
        match found {
            Ok(found) => assert!(is_taken && found.map(|it| it.ip()).eq(expected), "{answer:?}"),
            Err(error) => assert!(!is_taken && error.is::<AddressError>(), "{answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_for_the_public_asks_no_name_of_this_machine() {
    let web = Web::over(&settings(false), Answers::of(&[&["127.0.0.1"]])).expect("a client");
    assert_eq!(post(&web, "https://agent.example/").await, Err(WebError::Address(AddressError::Private)));
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_judged_at_each_connection() {
    let server = Server::with("200 OK", "fine");
    let names = Answers::of(&[&["127.0.0.1"], &["10.0.0.1"], &["127.0.0.1", "169.254.169.254"], &["127.0.0.1"]]);
    let web = Web::over(&settings(true), names.clone()).expect("a client");
    let address = format!("http://agent.localhost:{}/", server.port);
    let private = Err(WebError::Address(AddressError::Private));
    let fine = Ok(Answer { status: 200, body: b"fine".to_vec() });
    for (expected, left) in [(&fine, 3), (&private, 2), (&private, 1), (&fine, 0), (&Err(WebError::NameNotFound), 0)] {
        assert_eq!(&post(&web, &address).await, expected);
        assert_eq!(names.left(), left, "a name is resolved once for a connection, and what was found is connected to");
    }
    assert_eq!(server.requests.try_iter().count(), 2);
}

#[tokio::test]
async fn an_address_of_this_machine_that_another_client_takes_is_not_asked() {
    let server = Server::with("200 OK", "fine");
    let address = Address::parse(&format!("http://127.0.0.1:{}/", server.port), true).expect("an address");
    let web = Web::new(&settings(false)).expect("a client");
    let asked = web.post_json(&address, &[], Vec::new(), Duration::from_secs(10)).await;
    assert_eq!(asked, Err(WebError::Address(AddressError::Private)));
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn json_goes_out_with_its_headers_and_the_answer_comes_back_whatever_its_status() {
    let server = Server::with("503 Service Unavailable", "later");
    let web = web();
    let address = web.address(&format!("http://localhost:{}/turns?key=1", server.port)).expect("an address");
    let headers = [("webhook-id", "message"), ("webhook-signature", "v1,abc")];
    let answer = web.post_json(&address, &headers, b"{\"a\":1}".to_vec(), Duration::from_secs(10)).await;
    assert_eq!(answer, Ok(Answer { status: 503, body: b"later".to_vec() }));
    let request = server.request();
    assert!(request.starts_with("POST /turns?key=1 HTTP/1.1\r\n"), "{request}");
    for header in ["content-type: application/json", "webhook-id: message", "webhook-signature: v1,abc", "user-agent: whatsapp-channel"] {
        assert!(request.contains(&format!("{header}\r\n")), "{request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::with("200 OK", "secrets");
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: http://127.0.0.1:{}/", elsewhere.port);
        let server = Server::answering(format!("HTTP/1.1 {status} Moved\r\n{location}\r\ncontent-length: 0\r\n\r\n").into_bytes());
        let answer = post(&web(), &format!("http://127.0.0.1:{}/", server.port)).await;
        assert_eq!(answer, Ok(Answer { status, body: Vec::new() }));
    }
    assert!(elsewhere.requests.try_recv().is_err(), "nobody came");
}

#[tokio::test]
async fn an_answer_is_read_to_its_limit_and_no_further() {
    let body = "x".repeat(ANSWER_LIMIT);
    let server = Server::with("200 OK", &body);
    assert_eq!(post(&web(), &format!("http://127.0.0.1:{}/", server.port)).await.map(|it| it.body.len()), Ok(ANSWER_LIMIT));
    let server = Server::with("200 OK", &format!("{body}x"));
    assert_eq!(post(&web(), &format!("http://127.0.0.1:{}/", server.port)).await, Err(WebError::AnswerTooLong));
    let endless = Server::answering(format!("HTTP/1.1 200 OK\r\n\r\n{body}{body}").into_bytes());
    assert_eq!(post(&web(), &format!("http://127.0.0.1:{}/", endless.port)).await, Err(WebError::AnswerTooLong));
}

#[tokio::test]
async fn what_goes_wrong_has_a_name() {
    // It takes connections into its backlog and never speaks.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let address = web().address(&format!("http://127.0.0.1:{port}/")).expect("an address");
    let waited = web().post_json(&address, &[], Vec::new(), Duration::from_millis(50)).await;
    assert_eq!(waited, Err(WebError::Timeout));
    drop(silent);
    assert_eq!(post(&web(), &format!("http://127.0.0.1:{port}/")).await, Err(WebError::Refused));

    let plain = Server::with("400 Bad Request", "");
    assert_eq!(post(&web(), &format!("https://127.0.0.1:{}/", plain.port)).await, Err(WebError::Tls));
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "SSH-2.0\r\n"] {
        let server = Server::answering(answer.into());
        assert_eq!(post(&web(), &format!("http://127.0.0.1:{}/", server.port)).await, Err(WebError::BrokenOff), "{answer}");
    }
    let unsayable = web().post_json(&address, &[("webhook-id", "a\nb")], Vec::new(), Duration::from_secs(10)).await;
    assert_eq!(unsayable, Err(WebError::Unsayable));
}

#[tokio::test]
async fn nothing_that_is_printed_holds_an_address() {
    let server = Server::answering(Vec::new());
    let address = web().address(&format!("http://127.0.0.1:{}/a-path?key=a-secret", server.port)).expect("an address");
    let error = web().post_json(&address, &[], Vec::new(), Duration::from_secs(10)).await.expect_err("no answer");
    let printed = format!("{address:?} {error:?} {error} {} {:?}", error.code(), refused("https://user:a-secret@127.0.0.1/a-path"));
    assert!(!printed.contains("a-path") && !printed.contains("a-secret") && !printed.contains("127"), "{printed}");
    let answer = Answer { status: 200, body: b"words".to_vec() };
    assert_eq!(format!("{answer:?}"), "Answer(200, 5 bytes)");
}
