/* rabbitmq-c as a peer of the benchmark: rabbitmq_c WORK QUEUE MESSAGES DELIVERY_MODE BODY_BYTES, the broker's
 * URI in BROKER.
 * Prints one line of JSON, the same as the Rust peers. Confirms are counted frame by frame, because the library has no
 * call for them. */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { WINDOW = 1000, PREFETCH = 1000, CHANNEL = 1, FRAME_MAX = 131072 };

static amqp_connection_state_t connection;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "rabbitmq-c: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static void expect_ok(int status, const char *what) {
    if (status < 0) fail("%s: %s", what, amqp_error_string2(status));
}

static void expect_reply(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        fail("%s: %s", what, amqp_error_string2(reply.library_error));
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail("%s: refused by the broker", what);
}

static void connect_to_broker(void) {
    const char *broker = getenv("BROKER");
    if (broker == NULL) fail("BROKER is not set");
    char *uri = strdup(broker);
    struct amqp_connection_info info;
    expect_ok(amqp_parse_url(uri, &info), "BROKER");
    connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (socket == NULL) fail("no socket");
    expect_ok(amqp_socket_open(socket, info.host, info.port), "connect");
    expect_reply(
        amqp_login(connection, info.vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password),
        "login");
    amqp_channel_open(connection, CHANNEL);
    expect_reply(amqp_get_rpc_reply(connection), "channel.open");
}

/* Confirms: a single one may precede a multiple one that covers it, so each is remembered. */
static unsigned char *is_confirmed;
static uint64_t lowest, confirmed;

static void take_confirm(void) {
    amqp_frame_t frame;
    expect_ok(amqp_simple_wait_frame(connection, &frame), "waiting for a confirm");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
        fail("expected a confirm, got frame type %d method %x", frame.frame_type, frame.payload.method.id);
    const amqp_basic_ack_t *ack = frame.payload.method.decoded;
    uint64_t first = ack->multiple ? lowest : ack->delivery_tag - 1;
    for (uint64_t i = first; i < ack->delivery_tag; i++) {
        confirmed += !is_confirmed[i];
        is_confirmed[i] = 1;
    }
    if (ack->multiple) lowest = ack->delivery_tag;
    amqp_maybe_release_buffers(connection);
}

/* Waits until at most `in_flight` of `published` messages are unconfirmed, then takes what has arrived besides. */
static void take_confirms(uint64_t published, uint64_t in_flight) {
    while (published - confirmed > in_flight) take_confirm();
    while (amqp_frames_enqueued(connection) || amqp_data_in_buffer(connection)) take_confirm();
}

static void publish(const char *queue, uint64_t messages, uint64_t window, uint8_t delivery_mode,
                    size_t body_bytes) {
    unsigned char *body = malloc(body_bytes + 1);
    memset(body, 'x', body_bytes);
    amqp_bytes_t bytes = {.len = body_bytes, .bytes = body};
    amqp_bytes_t routing_key = amqp_cstring_bytes(queue);
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = delivery_mode};
    for (uint64_t published = 0; published < messages;) {
        expect_ok(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, routing_key, 0, 0, &properties, bytes),
                  "basic.publish");
        published++;
        if (window > 0 && published - confirmed >= window) take_confirms(published, window - 1);
    }
    if (window > 0) take_confirms(messages, 0);
    free(body);
}

static void consume(const char *queue, uint64_t messages) {
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    expect_reply(amqp_get_rpc_reply(connection), "basic.consume");
    for (uint64_t i = 0; i < messages; i++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        expect_reply(amqp_consume_message(connection, &envelope, NULL, 0), "basic.deliver");
        expect_ok(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, 0), "basic.ack");
        amqp_destroy_envelope(&envelope);
    }
}

static uint64_t micros(struct timeval time) { return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec; }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t status_field(const char *format) {
    char line[256];
    uint64_t value = 0;
    FILE *status = fopen("/proc/self/status", "r");
    if (status == NULL) fail("/proc/self/status cannot be read");
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, format, &value) != 1) continue;
    fclose(status);
    return value;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "version") == 0) {
        puts(amqp_version());
        return 0;
    }
    if (count != 6) fail("usage: rabbitmq_c version | WORK QUEUE MESSAGES DELIVERY_MODE BODY_BYTES");
    const char *work = arguments[1], *queue = arguments[2];
    uint64_t messages = strtoull(arguments[3], NULL, 10), window = 0;
    int consuming = strcmp(work, "consume") == 0;
    if (strcmp(work, "publish") == 0)
        window = WINDOW;
    else if (strcmp(work, "publish-wait") == 0)
        window = 1;
    else if (strcmp(work, "publish-unconfirmed") != 0 && !consuming)
        fail("unknown work %s", work);

    connect_to_broker();
    if (consuming) {
        amqp_basic_qos(connection, CHANNEL, 0, PREFETCH, 0);
        expect_reply(amqp_get_rpc_reply(connection), "basic.qos");
    } else if (window > 0) {
        is_confirmed = calloc(messages, 1);
        amqp_confirm_select(connection, CHANNEL);
        expect_reply(amqp_get_rpc_reply(connection), "confirm.select");
    }

    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    double started = now();
    if (consuming)
        consume(queue, messages);
    else
        publish(queue, messages, window, (uint8_t)atoi(arguments[4]), strtoull(arguments[5], NULL, 10));
    /* Its reply comes after everything that was sent. */
    expect_reply(amqp_channel_close(connection, CHANNEL, AMQP_REPLY_SUCCESS), "channel.close");
    double seconds = now() - started;
    getrusage(RUSAGE_SELF, &after);
    printf("{\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"cpu_user_us\":%" PRIu64 ",\"cpu_sys_us\":%" PRIu64
           ",\"rss_kib\":%" PRIu64 ",\"threads\":%" PRIu64 "}\n",
           messages, seconds, micros(after.ru_utime) - micros(before.ru_utime),
           micros(after.ru_stime) - micros(before.ru_stime), status_field("VmRSS: %" SCNu64),
           status_field("Threads: %" SCNu64));
    return 0;
}
