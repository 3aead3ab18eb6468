//! Frames that cannot be, on an open connection: `connection.close` with the right reply code, and an error that names
//! the bound.

use murano_messaging::ErrorKind;

use crate::{
    bytes::*,
    script::{LONG, Server, end_of},
};
use murano_testkit::within;

/// The server lets the client consume and then sends what `evil` makes of the consumer's channel and tag. The client
/// says so, in a `connection.close` with `code` and in the error its owner gets.
pub async fn assert_refused(
    evil: impl FnOnce(u16, &str) -> Vec<u8> + Send + 'static,
    code: u16,
    bound: &str,
) {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        peer.send(evil(channel, &tag)).await;
        peer.closed().await
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    let error = end_of(&consumer).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains(bound), "'{bound}' is not in: {error}");
    assert!(error.to_string().contains(&code.to_string()), "{code} is not in: {error}");
    let after = within("what is asked after the end", LONG, client.queue_info("q")).await.unwrap_err();
    assert_eq!(after.kind(), ErrorKind::Protocol, "{after}");
    let (told, text) = server.end().await;
    assert_eq!(told, code, "{text}");
    assert!(text.contains(bound), "'{bound}' is not in: {text}");
}

/// Tests of [`assert_refused`]: a name, the bytes, the reply code and what the text has in it.
macro_rules! refused {
    ($($name:ident: |$channel:pat_param, $tag:pat_param| $evil:expr => $code:literal, $bound:literal;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::framing::assert_refused(|$channel: u16, $tag: &str| $evil, $code, $bound).await;
            }
        )+
    };
}
pub(crate) use refused;

refused! {
    frame_over_the_negotiated_frame_max:
        |channel, _| sized_frame(BODY, channel, 131_073 - 8, &[]) => 501, "frame_max (131072)";
    frame_of_four_gibibytes:
        |channel, _| sized_frame(METHOD, channel, u32::MAX, &[]) => 501, "frame_max (131072)";
    unknown_frame_type:
        |channel, _| frame(4, channel, &[]) => 501, "unknown frame type 4";
    frame_type_of_amqp_0_9:
        |channel, _| frame(7, channel, &[]) => 501, "unknown frame type 7";
    frame_type_65:
        |_, _| frame(b'A', 0, &[]) => 501, "unknown frame type 65";
    frame_without_its_end: |channel, tag| {
        let mut bytes = deliver(channel, tag, 1);
        *bytes.last_mut().unwrap() = 0xCD;
        bytes
    } => 501, "frame-end";
    zeroes:
        |_, _| vec![0; 4096] => 501, "unknown frame type 0";
    protocol_header_in_the_middle:
        |_, _| b"AMQP\0\0\x09\x01".to_vec() => 501, "protocol header";
    heartbeat_with_a_payload:
        |_, _| frame(8, 0, &[0]) => 501, "heartbeat";
    heartbeat_on_a_channel:
        |channel, _| frame(8, channel, &[]) => 501, "heartbeat";

    method_without_a_payload:
        |channel, _| frame(METHOD, channel, &[]) => 502, "shorter than its ids";
    method_of_three_bytes:
        |channel, _| frame(METHOD, channel, &[0, 60, 0]) => 502, "shorter than its ids";
    method_of_an_unknown_class:
        |channel, _| method(channel, (61, 10), &[]) => 502, "[61, 10]";
    unknown_method:
        |channel, _| method(channel, (60, 61), &[]) => 502, "[60, 61]";
    method_cut_inside_a_number:
        |channel, _| method(channel, ACK, &[0; 7]) => 502, "[60, 80]";
    method_with_bytes_left_over:
        |channel, _| method(channel, QOS_OK, &[0]) => 502, "[60, 11]";
    short_string_that_passes_the_end_of_its_frame:
        |channel, _| method(channel, DECLARE_OK, &[200, b'q']) => 502, "[50, 11]";
    delivery_whose_tag_passes_the_end_of_its_frame:
        |channel, _| method(channel, DELIVER, &[255, b't']) => 502, "ends inside its fields";
    delivery_with_bytes_left_over: |channel, tag| {
        let mut bytes = deliver(channel, tag, 1);
        bytes.insert(bytes.len() - 1, 0);
        let size = (bytes.len() - 8) as u32;
        bytes[3..7].copy_from_slice(&size.to_be_bytes());
        bytes
    } => 502, "left over";
    get_ok_cut_short:
        |channel, _| method(channel, GET_OK, &[0; 8]) => 502, "ends inside its fields";
    deep_table_in_a_method:
        |_, _| start(&nested_table(5000), "PLAIN") => 502, "deeper than 32";

    header_without_a_payload:
        |channel, tag| [deliver(channel, tag, 1), frame(HEADER, channel, &[])].concat() => 501, "shorter than its fixed";
    header_of_eleven_bytes:
        |channel, tag| [deliver(channel, tag, 1), frame(HEADER, channel, &[0; 11])].concat()
        => 501, "shorter than its fixed";
    header_without_flags:
        |channel, tag| [deliver(channel, tag, 1), header(channel, 0, &[0])].concat() => 501, "no property flags";
    header_of_another_class: |channel, tag| {
        let payload = [&[0, 50, 0, 0][..], &[0; 8], BARE].concat();
        [deliver(channel, tag, 1), frame(HEADER, channel, &payload)].concat()
    } => 501, "class 50";

    method_on_a_channel_never_opened:
        |channel, _| method(channel + 7, QOS_OK, &[]) => 504, "not open";
    method_on_the_last_channel:
        |_, _| method(u16::MAX, QOS_OK, &[]) => 504, "channel 65535";
    delivery_on_a_channel_never_opened:
        |channel, tag| message(channel + 7, tag, 1, b"x") => 504, "not open";
    header_on_a_channel_never_opened:
        |channel, _| header(channel + 7, 1, BARE) => 504, "not open";
    body_on_a_channel_never_opened:
        |channel, _| body(channel + 7, b"x") => 504, "not open";
    body_on_channel_0:
        |_, _| body(0, b"x") => 504, "channel 0";
    channel_close_for_a_channel_never_opened:
        |channel, _| close(channel + 7, CHANNEL_CLOSE, 406, "PRECONDITION_FAILED") => 504, "not open";
    channel_method_on_channel_0:
        |_, _| method(0, QOS_OK, &[]) => 503, "channel 0";
    connection_method_on_a_channel:
        |channel, _| method(channel, BLOCKED, &short("x")) => 503, "10.60";
}
