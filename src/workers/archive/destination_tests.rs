//! A directory, and a bucket behind a small server that speaks as much S3 as an archive needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn s3(secret: Option<&str>) -> Wanted {
    Wanted::ObjectStore {
        url: "s3://archive/orders/2024".to_owned(),
        secret: secret.map(ToOwned::to_owned),
    }
}

#[test]
fn a_bucket_takes_its_options_from_mounted_files() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Destination::open(&s3(Some("archive")), folder.path());
    assert_eq!(open().err().unwrap().reason(), "SecretMissing");
    std::fs::write(folder.path().join("aws_access_key_id"), "id\n").unwrap();
    std::fs::write(folder.path().join("aws_secret_access_key"), "hunter2\n").unwrap();
    std::fs::write(folder.path().join("aws_region"), "eu-central-1").unwrap();
    let destination = open().unwrap();
    let path = destination.path(&["shop", "or/ders", "manifest.json"]);
    let url = destination.url(&path);
    assert_eq!(url, "s3://archive/orders/2024/shop/or%2Fders/manifest.json");

    std::fs::write(folder.path().join("ca.crt"), "no certificate").unwrap();
    let error = open().err().unwrap();
    assert_eq!(error.reason(), "ArchiveDestinationRefused", "{error}");
    std::fs::remove_file(folder.path().join("ca.crt")).unwrap();

    std::fs::write(folder.path().join("colour"), "blue").unwrap();
    let error = open().err().unwrap();
    assert!(
        error.to_string().contains("Secret archive has a key \"colour\""),
        "{error}"
    );
    assert!(
        !error.to_string().contains("hunter2") && !error.is_transient(),
        "{error}"
    );
}

async fn is_written_listed_and_cleared(destination: &Destination) {
    let (one, other) = (destination.path(&["a", "part"]), destination.path(&["b", "part"]));
    for path in [&one, &other] {
        destination.put(path, Bytes::from_static(b"rows")).await.unwrap();
    }
    destination.clear(&destination.path(&["a"])).await.unwrap();
    destination.clear(&destination.path(&["never"])).await.unwrap();
    assert_eq!(destination.get(&one).await.unwrap(), None);
    assert_eq!(
        destination.get(&other).await.unwrap(),
        Some(Bytes::from_static(b"rows"))
    );
    assert!(
        destination.url(&other).ends_with("/b/part"),
        "{}",
        destination.url(&other)
    );
}

#[tokio::test]
async fn a_directory_is_written_listed_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = |path: &FilePath| Wanted::Volume {
        path: path.display().to_string(),
        claim: "archive".to_owned(),
    };
    let nowhere = Destination::open(&wanted(&folder.path().join("nowhere")), folder.path())
        .err()
        .unwrap();
    assert!(
        nowhere.to_string().contains("PersistentVolumeClaim archive"),
        "{nowhere}"
    );
    let destination = Destination::open(&wanted(folder.path()), folder.path()).unwrap();
    is_written_listed_and_cleared(&destination).await;
}

#[tokio::test]
async fn a_bucket_is_written_listed_and_cleared_and_a_refusal_is_no_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let objects = Objects::default();
    let serving = tokio::spawn(serve(listener, objects.clone()));

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
    write("aws_access_key_id", "somebody");
    write("aws_secret_access_key", "hunter2");
    write("aws_endpoint", &endpoint);
    write("aws_allow_http", "true");
    let destination = Destination::open(&s3(Some("archive")), folder.path()).unwrap();
    is_written_listed_and_cleared(&destination).await;
    let kept: Vec<String> = objects.0.lock().unwrap().keys().cloned().collect();
    assert_eq!(kept, ["orders/2024/b/part"]);

    write("aws_access_key_id", "stranger");
    let destination = Destination::open(&s3(Some("archive")), folder.path()).unwrap();
    let path = destination.path(&["a"]);
    let error = destination.put(&path, Bytes::new()).await.unwrap_err();
    assert_eq!(error.reason(), "ArchiveDestinationRefused", "{error}");
    assert!(
        !error.is_transient() && !error.to_string().contains("hunter2"),
        "{error}"
    );
    serving.abort();
}

#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

async fn serve(listener: TcpListener, objects: Objects) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let objects = objects.clone();
        tokio::spawn(async move { while answer(&mut stream, &objects).await.is_some() {} });
    }
}

/// One request and its answer.
async fn answer(stream: &mut TcpStream, objects: &Objects) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = head.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let url = url::Url::parse(&format!("http://bucket{target}")).ok()?;
    let key = url
        .path()
        .strip_prefix("/archive")
        .unwrap_or_default()
        .trim_start_matches('/')
        .to_owned();
    let query = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let allowed = header("authorization").is_some_and(|text| text.contains("Credential=somebody/"));
    let (status, body) = {
        let mut held = objects.0.lock().unwrap();
        match method {
            _ if !allowed => ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>".to_vec()),
            "PUT" => {
                held.insert(key, body);
                ("200 OK", Vec::new())
            }
            "POST" if query("delete").is_some() => {
                let asked = String::from_utf8(body).ok()?;
                let keys = asked
                    .split("<Key>")
                    .skip(1)
                    .filter_map(|rest| rest.split_once("</Key>"));
                let deleted = keys.map(|(key, _)| {
                    held.remove(key);
                    format!("<Deleted><Key>{key}</Key></Deleted>")
                });
                let deleted: String = deleted.collect();
                ("200 OK", format!("<DeleteResult>{deleted}</DeleteResult>").into_bytes())
            }
            "GET" if query("list-type").is_some() => {
                let prefix = query("prefix").unwrap_or_default();
                let listed = held.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, body)| {
                    let size = body.len();
                    format!("<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2024-01-01T00:00:00Z</LastModified><ETag>x</ETag></Contents>")
                });
                let listed: String = listed.collect();
                (
                    "200 OK",
                    format!("<ListBucketResult>{listed}</ListBucketResult>").into_bytes(),
                )
            }
            "GET" => match held.get(&key) {
                Some(body) => ("200 OK", body.clone()),
                None => ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            },
            _ => ("501 Not Implemented", Vec::new()),
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"x\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()
}
