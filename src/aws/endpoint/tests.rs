use super::*;

fn ireland() -> Endpoints {
    Endpoints::for_region("eu-west-1", None).unwrap()
}

#[test]
fn prefix_of_the_region_decides_the_domain() {
    let table = [
        ("us-east-1", "https://ssm.us-east-1.amazonaws.com/"),
        ("cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn/"),
        ("us-iso-east-1", "https://ssm.us-iso-east-1.c2s.ic.gov/"),
        (
            "us-isob-east-1",
            "https://ssm.us-isob-east-1.sc2s.sgov.gov/",
        ),
        (
            "us-isof-south-1",
            "https://ssm.us-isof-south-1.csp.hci.ic.gov/",
        ),
        (
            "eu-isoe-west-1",
            "https://ssm.eu-isoe-west-1.cloud.adc-e.uk/",
        ),
        ("eusc-de-east-1", "https://ssm.eusc-de-east-1.amazonaws.eu/"),
        ("us-gov-west-1", "https://ssm.us-gov-west-1.amazonaws.com/"),
    ];

    for (region, expected) in table {
        let endpoints = Endpoints::for_region(region, None).unwrap();
        assert_eq!(endpoints.ssm.as_str(), expected);
    }
}

#[test]
fn service_domain_replaces_the_domain_of_every_service() {
    let endpoints = Endpoints::for_region("eu-west-1", Some("my.domain")).unwrap();

    assert_eq!(endpoints.ssm.as_str(), "https://ssm.eu-west-1.my.domain/");
    assert_eq!(
        endpoints.messages.as_str(),
        "https://ssmmessages.eu-west-1.my.domain/"
    );
}

#[test]
fn service_domain_that_is_no_domain_is_refused() {
    for domain in ["", "a/b", "a?b", "a:1", "a b", "x#y"] {
        assert_eq!(
            Endpoints::for_region("eu-west-1", Some(domain)),
            Err(EndpointError::ServiceDomain(domain.to_owned()))
        );
    }
}

#[test]
fn region_that_could_change_the_host_is_refused() {
    let long = "a".repeat(MAX_REGION + 1);
    for region in ["", "eu.west", "eu/west", "eu west", "é", long.as_str()] {
        assert_eq!(
            Endpoints::for_region(region, None),
            Err(EndpointError::Region(region.to_owned()))
        );
    }
}

#[test]
fn gateway_endpoint_is_understood_in_every_way_a_person_writes_it() {
    let table = [
        ("host.example.com", "https://host.example.com/"),
        ("127.0.0.1:8443", "https://127.0.0.1:8443/"),
        ("localhost:8443", "https://localhost:8443/"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443/"),
        ("wss://gateway:8443/v1/", "https://gateway:8443/"),
        ("http://gateway:8080", "https://gateway:8080/"),
        ("[::1]:8443", "https://[::1]:8443/"),
        (" gateway ", "https://gateway/"),
    ];

    for (text, expected) in table {
        let endpoints = ireland().with_messages(text).unwrap();
        assert_eq!(endpoints.messages.as_str(), expected, "{text:?}");
    }
}

#[test]
fn ssm_endpoint_may_be_plain_http_and_keeps_its_path() {
    let table = [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("127.0.0.1:8080", "https://127.0.0.1:8080/"),
        ("https://proxy.example/ssm", "https://proxy.example/ssm/"),
    ];

    for (text, expected) in table {
        let endpoints = ireland().with_ssm(text).unwrap();
        assert_eq!(endpoints.ssm.as_str(), expected, "{text:?}");
    }
}

#[test]
fn endpoint_that_nothing_can_be_sent_to_is_refused() {
    for text in [
        "",
        "ftp://host",
        "host:port",
        "https://",
        "https://u:p@host",
    ] {
        assert!(ireland().with_ssm(text).is_err(), "{text:?}");
    }
}

#[test]
fn password_in_an_endpoint_is_not_repeated_in_the_error() {
    let error = ireland().with_ssm("https://u:secret@host").unwrap_err();

    assert!(!error.to_string().contains("secret"));
}

#[test]
fn overrides_apply_each_to_its_service() {
    let overrides = Overrides {
        region: Some("us-east-1".into()),
        messages_region: Some("us-east-2".into()),
        ssm: Some("http://127.0.0.1:8080".into()),
        kms: Some("http://127.0.0.1:8081".into()),
        delivery: Some("http://127.0.0.1:8083".into()),
        logs: Some("http://127.0.0.1:8082".into()),
        ..Overrides::default()
    };

    let endpoints = overrides.resolve("eu-west-1").unwrap();

    assert_eq!(endpoints.region, "us-east-1");
    assert_eq!(endpoints.kms.as_str(), "http://127.0.0.1:8081/");
    assert_eq!(endpoints.logs.as_str(), "http://127.0.0.1:8082/");
    assert_eq!(endpoints.delivery.as_str(), "http://127.0.0.1:8083/");
    assert_eq!(endpoints.ssm.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(endpoints.messages_region, "us-east-2");
    assert_eq!(
        endpoints.messages.as_str(),
        "https://ssmmessages.us-east-2.amazonaws.com/"
    );
}

#[test]
fn no_overrides_leave_the_endpoints_of_the_region() {
    assert_eq!(
        Overrides::default().resolve("eu-west-1").unwrap(),
        ireland()
    );
}

#[test]
fn variant_is_that_of_every_endpoint_that_is_not_named() {
    let overrides = Overrides {
        ssm: Some("http://127.0.0.1:8080".into()),
        variant: Variant {
            fips: true,
            dual_stack: true,
        },
        ..Overrides::default()
    };

    let endpoints = overrides.resolve("us-west-2").unwrap();

    assert_eq!(endpoints.ssm.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(
        endpoints.messages.as_str(),
        "https://ssmmessages-fips.us-west-2.api.aws/"
    );
    assert_eq!(
        endpoints.logs.as_str(),
        "https://logs-fips.us-west-2.api.aws/"
    );
    assert_eq!(
        endpoints.s3.url.as_str(),
        "https://s3-fips.dualstack.us-west-2.amazonaws.com/"
    );
}

#[test]
fn fips_that_aws_does_not_have_is_an_error_that_names_the_service() {
    let wanted = Overrides {
        variant: fips(),
        ..Overrides::default()
    };
    let half = Overrides {
        ssm: Some("https://gateway.example".into()),
        ..wanted.clone()
    };
    let own_domain = Overrides {
        service_domain: Some("my.domain".into()),
        ..wanted.clone()
    };

    assert_eq!(
        wanted.resolve("eu-west-1"),
        Err(EndpointError::NoFips {
            service: "ssm",
            region: "eu-west-1".into()
        })
    );
    let error = half.resolve("eu-west-1").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("AWS has no FIPS endpoint of ssmmessages in eu-west-1")
    );
    assert!(matches!(
        own_domain.resolve("us-east-1"),
        Err(EndpointError::NoFipsDomain { service: "ssm", .. })
    ));
}

#[test]
fn named_endpoints_need_no_fips_endpoints_of_aws() {
    let overrides = Overrides {
        ssm: Some("https://gateway.example".into()),
        messages: Some("https://gateway.example".into()),
        variant: fips(),
        ..Overrides::default()
    };

    let endpoints = overrides.resolve("eu-west-1").unwrap();

    assert_eq!(endpoints.ssm.as_str(), "https://gateway.example/");
    assert_eq!(
        endpoints.kms.as_str(),
        "https://kms-fips.eu-west-1.amazonaws.com/"
    );
}

fn fips() -> Variant {
    Variant {
        fips: true,
        dual_stack: false,
    }
}
