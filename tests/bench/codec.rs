//! Cost of one message in the codec, and of its bytes in a mux session: `cargo bench --bench codec`.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ssm_agent::protocol::mux::{Role, Session, Settings, StreamId};
use ssm_agent::protocol::wire::message::Header;
use ssm_agent::protocol::wire::{Acknowledgement, Message, MessageId, MessageType, PayloadType};

fn message(payload: usize) -> Message {
    Message {
        message_type: MessageType::OutputStreamData,
        created_ms: 1_700_000_000_000,
        sequence_number: 42,
        flags: 0,
        id: MessageId::from_random([7; 16]),
        payload_type: PayloadType::Output,
        payload: Bytes::from(vec![b'x'; payload]),
    }
}

fn stream_messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    for size in [16usize, 1024, 32 << 10] {
        let message = message(size);
        let encoded = message.encode();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("encode", size), &message, |b, message| {
            b.iter(|| black_box(message).encode());
        });
        group.bench_with_input(BenchmarkId::new("decode", size), &encoded, |b, encoded| {
            b.iter(|| Message::decode(black_box(encoded)));
        });
        group.bench_with_input(
            BenchmarkId::new("decode_verified", size),
            &encoded,
            |b, encoded| {
                b.iter(|| Message::decode_verified(black_box(encoded)));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("header_only", size),
            &encoded,
            |b, encoded| {
                b.iter(|| Header::decode(black_box(encoded)));
            },
        );
    }
    group.finish();
}

fn acknowledgements(criterion: &mut Criterion) {
    let acknowledgement = Acknowledgement {
        message_type: MessageType::OutputStreamData,
        message_id: MessageId::from_random([7; 16]),
        sequence_number: 123_456,
    };
    let encoded = acknowledgement.encode();
    criterion.bench_function("acknowledgement/encode", |b| {
        b.iter(|| black_box(&acknowledgement).encode());
    });
    criterion.bench_function("acknowledgement/decode", |b| {
        b.iter(|| Acknowledgement::decode_sequence_number(black_box(&encoded)));
    });
}

/// 32 KiB written to a stream of one session and read from it at the other.
fn mux(criterion: &mut Criterion) {
    const SIZE: usize = 32 << 10;
    let mut group = criterion.benchmark_group("mux");
    group.throughput(Throughput::Bytes(SIZE as u64));
    let data = Bytes::from(vec![b'x'; SIZE]);
    for (streams, payload) in [(1, SIZE), (1000, SIZE), (1, 1024)] {
        let now = Instant::now();
        let mut client = Session::new(Settings::new(Role::Client), now);
        let mut server = Session::new(Settings::new(Role::Server), now);
        let ids: Vec<StreamId> = (0..streams).filter_map(|_| client.open(now).ok()).collect();
        let mut turns = ids.iter().cycle();
        let name = format!("{streams} streams, payloads of {payload}");
        group.bench_function(name, |b| {
            b.iter(|| {
                let id = *turns.next().expect("it never ends");
                client.write(id, &mut data.clone());
                while let Some(piece) = client.poll_transmit(payload) {
                    server.handle_bytes(piece, now).expect("our own bytes");
                }
                while server.poll_event().is_some() || client.poll_event().is_some() {}
                while let Some(piece) = server.read(id, now) {
                    black_box(piece);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stream_messages, acknowledgements, mux);
criterion_main!(benches);
