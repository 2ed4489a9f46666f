use super::*;

#[test]
fn each_scheme_has_its_variable() {
    let settings = settings(&[
        ("HTTPS_PROXY", "http://secure:3128"),
        ("HTTP_PROXY", "http://plain:8080"),
    ]);

    assert_eq!(
        chosen(&settings, "wss://gateway.example/x"),
        "http://secure:3128"
    );
    assert_eq!(
        chosen(&settings, "https://gateway.example/"),
        "http://secure:3128"
    );
    assert_eq!(
        chosen(&settings, "ws://gateway.example/"),
        "http://plain:8080"
    );
    assert_eq!(
        chosen(&settings, "http://gateway.example/"),
        "http://plain:8080"
    );
}

#[test]
fn lower_case_goes_before_upper_case_and_all_proxy_comes_last() {
    let settings = settings(&[
        ("https_proxy", "lower:1"),
        ("HTTPS_PROXY", "upper:2"),
        ("http_proxy", ""),
        ("ALL_PROXY", "all:3"),
    ]);

    assert_eq!(chosen(&settings, "https://a.example/"), "http://lower:1");
    assert_eq!(chosen(&settings, "http://a.example/"), "http://all:3");
}

#[test]
fn without_variables_there_is_no_proxy() {
    assert_eq!(chosen(&settings(&[]), "https://a.example/"), "none");
}

#[test]
fn this_host_is_never_reached_through_a_proxy() {
    let settings = settings(&[("ALL_PROXY", "proxy:1")]);

    for url in [
        "wss://localhost:8443/",
        "https://127.0.0.1/",
        "http://[::1]:80/",
    ] {
        assert_eq!(chosen(&settings, url), "none", "{url}");
    }
}

#[test]
fn exempt_domains_cover_themselves_and_their_subdomains() {
    let settings = exempting("example.com, .dotted.org,*.starred.net,with-port.io:8443");

    for (url, exempt) in [
        ("https://example.com/", true),
        ("https://a.b.EXAMPLE.com/", true),
        ("https://badexample.com/", false),
        ("https://dotted.org/", false),
        ("https://a.dotted.org/", true),
        ("https://a.starred.net/", true),
        ("https://with-port.io/", false),
        ("https://with-port.io:8443/", true),
    ] {
        assert_eq!(chosen(&settings, url) == "none", exempt, "{url}");
    }
}

#[test]
fn exempt_addresses_and_networks_cover_literal_addresses() {
    let settings =
        exempting("10.0.0.0/8,192.0.2.7,192.0.2.8:443,fd00::/8,[2001:db8::1]:443,bad/99");

    for (url, exempt) in [
        ("https://10.200.3.4/", true),
        ("https://11.0.0.1/", false),
        ("https://192.0.2.7:9999/", true),
        ("https://192.0.2.8/", true),
        ("https://192.0.2.8:9999/", false),
        ("https://[fd12::1]/", true),
        ("https://[2001:db8::1]/", true),
        ("https://[2001:db8::2]/", false),
    ] {
        assert_eq!(chosen(&settings, url) == "none", exempt, "{url}");
    }
}

#[test]
fn a_star_exempts_everything_and_a_zero_prefix_every_address() {
    assert_eq!(chosen(&exempting("*"), "https://a.example/"), "none");
    assert_eq!(chosen(&exempting("0.0.0.0/0"), "https://8.8.8.8/"), "none");
    assert_eq!(
        chosen(&exempting("0.0.0.0/0"), "https://a.example/"),
        "http://proxy:1"
    );
}

#[test]
fn credentials_become_a_sensitive_header_and_stay_out_of_logs() {
    let proxy = Proxy::parse("https://us%40er:pa%3Ass@proxy.example").unwrap();

    let header = proxy.authorization().unwrap();
    assert_eq!(header, &format!("Basic {}", BASE64.encode("us@er:pa:ss")));
    assert!(header.is_sensitive());
    assert_eq!(
        (proxy.host(), proxy.port(), proxy.is_tls()),
        ("proxy.example", 443, true)
    );
    assert_eq!(
        format!("{proxy:?}"),
        "Proxy(https://proxy.example:443 with credentials)"
    );
}

#[test]
fn what_is_no_http_proxy_is_refused_without_showing_it() {
    assert_eq!(
        Proxy::parse("socks5://user:secret@host:1080"),
        Err(ProxyError::Scheme("socks5".into()))
    );
    assert_eq!(Proxy::parse("http://"), Err(ProxyError::Malformed));
    assert_eq!(
        chosen(
            &settings(&[("HTTPS_PROXY", "socks5://h:1")]),
            "https://a.example/"
        ),
        "none"
    );
}

fn settings(variables: &[(&str, &str)]) -> Settings {
    Settings::from_lookup(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn exempting(list: &str) -> Settings {
    settings(&[("ALL_PROXY", "proxy:1"), ("NO_PROXY", list)])
}

fn chosen(settings: &Settings, url: &str) -> String {
    let proxy = settings.proxy_for(&Url::parse(url).unwrap());
    proxy.map_or("none".into(), ToString::to_string)
}
