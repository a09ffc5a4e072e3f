/* What the server does with peers that do not keep to the protocol: raw sockets, byte by byte. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/rpc/frame.h"
#include "tests/unit/proto/rig.h"

TestSuite(strangers, .init = rig_setup, .fini = rig_teardown, .timeout = 60);

static struct buffer inbox;

static int stranger(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "%s/sock", folder);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	buffer_fini(&inbox);
	buffer_init(&inbox, 1 << 24);
	return fd;
}

static void tell(int fd, Postern__V1__FrameKind kind, uint32_t call, const char *method,
	uint32_t credit, const ProtobufCMessage *body)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	struct buffer out;
	buffer_init(&out, 1 << 24);
	frame.kind = kind;
	frame.call = call;
	frame.credit = credit;
	if (method)
		frame.method = (char *)(uintptr_t)method;
	cr_assert_eq(frame_append(&out, &frame, body, 1 << 24), STATUS_OK);
	cr_assert_eq(write(fd, buffer_bytes(&out), out.length), (ssize_t)out.length);
	buffer_fini(&out);
}

/* The next frame, while the server's loop runs; NULL when the server closed. */
static Postern__V1__Frame *hear(int fd)
{
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (clock_mono_us() < until) {
		Postern__V1__Frame *frame = NULL;
		enum frame_result result = frame_take(&inbox, 1 << 24, &frame);
		if (result == FRAME_OK)
			return frame;
		cr_assert_eq(result, FRAME_INCOMPLETE);
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		if (poll(&ready, 1, 0) == 0) {
			loop_step(loop, 10);
			continue;
		}
		ssize_t n = read(fd, buffer_reserve(&inbox, 65536), 65536);
		if (n <= 0)
			return NULL;
		buffer_commit(&inbox, (size_t)n);
	}
	cr_assert(false, "nothing came before the deadline");
	return NULL;
}

static void hear_kind(int fd, Postern__V1__FrameKind kind, uint32_t status)
{
	Postern__V1__Frame *frame = hear(fd);
	cr_assert_not_null(frame, "the server closed");
	cr_expect_eq(frame->kind, kind);
	cr_expect_eq(frame->status, status, "%u: %s", frame->status, frame->message);
	frame_free(frame);
}

static void hear_end(int fd)
{
	cr_expect_null(hear(fd));
	close(fd);
	step_until(all_gone);
	buffer_fini(&inbox);
}

#define KIND(name) POSTERN__V1__FRAME_KIND__FRAME_KIND_##name

static void hello(int fd, uint32_t version)
{
	Postern__V1__Hello message = POSTERN__V1__HELLO__INIT;
	message.n_versions = 1;
	message.versions = &version;
	message.token = (char *)(uintptr_t) "right";
	tell(fd, KIND(HELLO), 0, NULL, 0, &message.base);
}

static int welcomed(const struct rpc_limits *limits)
{
	rig_serve("ipc", limits);
	int fd = stranger();
	hello(fd, 1);
	hear_kind(fd, KIND(WELCOME), 0);
	return fd;
}

static void show(int fd, uint32_t call, const char *name)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	request.name = (char *)(uintptr_t)name;
	tell(fd, KIND(CALL), call, "postern.v1.Gateways/Show", 0, &request.base);
}

/* ---- before the welcome ---- */

Test(strangers, garbage_is_closed)
{
	rig_serve("ipc", NULL);
	int fd = stranger();
	cr_assert_eq(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	hear_end(fd);
	cr_expect_eq(rig_stats().malformed, 1);
}

Test(strangers, a_frame_that_is_none_is_closed)
{
	rig_serve("ipc", NULL);
	int fd = stranger();
	cr_assert_eq(write(fd, "\0\0\0\2\xff\xff", 6), 6);
	hear_end(fd);
	cr_expect_eq(rig_stats().malformed, 1);
}

Test(strangers, more_than_4_kib_before_the_welcome_is_closed)
{
	static const uint8_t header[4] = {0, 0, 0x10, 1};
	rig_serve("ipc", NULL);
	int fd = stranger();
	cr_assert_eq(write(fd, header, sizeof header), 4);
	hear_end(fd);
	cr_expect_eq(rig_stats().malformed, 1);
}

Test(strangers, a_call_before_the_hello_is_told)
{
	rig_serve("ipc", NULL);
	int fd = stranger();
	show(fd, 1, "gw1");
	hear_kind(fd, KIND(GOODBYE), STATUS_INVALID_ARGUMENT);
	hear_end(fd);
}

Test(strangers, another_version_is_told)
{
	rig_serve("ipc", NULL);
	int fd = stranger();
	hello(fd, 99);
	hear_kind(fd, KIND(GOODBYE), STATUS_FAILED_PRECONDITION);
	hear_end(fd);
}

Test(strangers, a_hello_in_single_bytes_is_welcome)
{
	static const uint8_t bytes[] = {
		0, 0, 0, 14, 16, 1, 74, 10, 10, 1, 1, 18, 5, 'r', 'i', 'g', 'h', 't'};
	rig_serve("ipc", NULL);
	int fd = stranger();
	for (size_t i = 0; i < sizeof bytes; i++) {
		cr_assert_eq(write(fd, bytes + i, 1), 1);
		loop_step(loop, 5);
	}
	hear_kind(fd, KIND(WELCOME), 0);
	close(fd);
	buffer_fini(&inbox);
}

Test(strangers, silence_before_the_hello_is_closed)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.hello_timeout_ms = 100;
	rig_serve("ipc", &limits);
	int fd = stranger();
	hear_end(fd);
	cr_expect_eq(rig_stats().hello_timeouts, 1);
}

Test(strangers, bytes_do_not_extend_the_time_for_the_hello)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.hello_timeout_ms = 200;
	rig_serve("ipc", &limits);
	int fd = stranger();
	cr_assert_eq(write(fd, "\0\0\x0f\xff", 4), 4);
	int64_t until = clock_mono_us() + DEADLINE_US;
	for (int n = 0; rig_stats().hello_timeouts == 0 && clock_mono_us() < until; n++) {
		if (n < 4000) /* the frame never becomes whole */
			(void)send(fd, "x", 1, MSG_NOSIGNAL);
		loop_step(loop, 20);
	}
	cr_expect_eq(rig_stats().hello_timeouts, 1);
	close(fd);
	buffer_fini(&inbox);
}

static bool three_accepted(void)
{
	return rig_stats().accepted == 3;
}

Test(strangers, the_oldest_gives_way_when_there_are_too_many)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_unauthenticated = 2;
	rig_serve("ipc", &limits);
	int fds[3] = {stranger(), stranger(), stranger()};
	step_until(three_accepted);
	cr_expect_eq(rig_stats().refused, 1);
	cr_expect_eq(rig_stats().connections, 2);
	hello(fds[2], 1);
	hear_kind(fds[2], KIND(WELCOME), 0);
	cr_expect_null(hear(fds[0]), "the first was closed");
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	buffer_fini(&inbox);
}

Test(strangers, known_peers_are_capped_and_do_not_give_way)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_connections = 1;
	int first = welcomed(&limits);
	int second = stranger();
	cr_expect_null(hear(second));
	cr_expect_eq(rig_stats().refused, 1);
	show(first, 1, "gw1");
	hear_kind(first, KIND(REPLY), 0);
	close(first);
	close(second);
	buffer_fini(&inbox);
}

/* ---- after the welcome ---- */

Test(strangers, a_malformed_frame_is_told)
{
	int fd = welcomed(NULL);
	cr_assert_eq(write(fd, "\0\0\0\2\xff\xff and more that nobody reads", 34), 34);
	hear_kind(fd, KIND(GOODBYE), STATUS_INVALID_ARGUMENT);
	hear_end(fd);
	cr_expect_eq(rig_stats().malformed, 1);
}

Test(strangers, a_frame_over_the_limit_is_told)
{
	static const uint8_t header[4] = {0, 0x10, 0, 1}; /* 1 MiB + 1 */
	int fd = welcomed(NULL);
	cr_assert_eq(write(fd, header, sizeof header), 4);
	hear_kind(fd, KIND(GOODBYE), STATUS_RESOURCE_EXHAUSTED);
	hear_end(fd);
	cr_expect_eq(rig_stats().malformed, 1);
}

Test(strangers, a_call_id_in_use_or_zero_is_told)
{
	int fd = welcomed(NULL);
	show(fd, 5, "hold");
	show(fd, 5, "gw1");
	hear_kind(fd, KIND(GOODBYE), STATUS_INVALID_ARGUMENT);
	hear_end(fd);
	cr_expect_eq(held_ended, 1);
	fd = stranger();
	hello(fd, 1);
	hear_kind(fd, KIND(WELCOME), 0);
	show(fd, 0, "gw1");
	hear_kind(fd, KIND(GOODBYE), STATUS_INVALID_ARGUMENT);
	hear_end(fd);
}

Test(strangers, a_second_hello_is_told)
{
	int fd = welcomed(NULL);
	hello(fd, 1);
	hear_kind(fd, KIND(GOODBYE), STATUS_INVALID_ARGUMENT);
	hear_end(fd);
}

Test(strangers, credit_and_cancel_of_unknown_calls_are_ignored)
{
	int fd = welcomed(NULL);
	tell(fd, KIND(CREDIT), 77, NULL, 5, NULL);
	tell(fd, KIND(CANCEL), 78, NULL, 0, NULL);
	show(fd, 1, "gw1");
	hear_kind(fd, KIND(REPLY), 0);
	close(fd);
	buffer_fini(&inbox);
}

Test(strangers, a_body_that_does_not_fit_the_method_is_an_error_of_the_call)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	struct buffer out;
	int fd = welcomed(NULL);
	buffer_init(&out, 1 << 20);
	frame.kind = KIND(CALL);
	frame.call = 1;
	frame.method = (char *)(uintptr_t) "postern.v1.Gateways/Show";
	frame.body.data = (uint8_t *)(uintptr_t) "\xff\xff";
	frame.body.len = 2;
	cr_assert_eq(frame_append(&out, &frame, NULL, 1 << 20), STATUS_OK);
	cr_assert_eq(write(fd, buffer_bytes(&out), out.length), (ssize_t)out.length);
	hear_kind(fd, KIND(REPLY), STATUS_INVALID_ARGUMENT);
	show(fd, 2, "gw1");
	hear_kind(fd, KIND(REPLY), 0);
	close(fd);
	buffer_fini(&out);
	buffer_fini(&inbox);
}

Test(strangers, an_unknown_method_quoted_back_is_valid_text)
{
	int fd = welcomed(NULL);
	char name[160];
	memset(name, 'x', sizeof name - 1);
	memcpy(name + 98, "\xe2\x82\xac", 3); /* the server cuts its quotation here */
	name[sizeof name - 1] = '\0';
	tell(fd, KIND(CALL), 1, name, 0, NULL);
	hear_kind(fd, KIND(REPLY), STATUS_UNIMPLEMENTED); /* frame_take refuses other texts */
	close(fd);
	buffer_fini(&inbox);
}

Test(strangers, goodbye_is_answered)
{
	int fd = welcomed(NULL);
	tell(fd, KIND(GOODBYE), 0, NULL, 0, NULL);
	hear_kind(fd, KIND(GOODBYE), 0);
	hear_end(fd);
}

Test(strangers, ping_is_answered)
{
	int fd = welcomed(NULL);
	tell(fd, KIND(PING), 0, NULL, 0, NULL);
	hear_kind(fd, KIND(PONG), 0);
	close(fd);
	buffer_fini(&inbox);
}

Test(strangers, silence_is_pinged_and_then_closed)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.heartbeat_ms = 100;
	limits.idle_timeout_ms = 250;
	int fd = welcomed(&limits);
	hear_kind(fd, KIND(PING), 0);
	hear_kind(fd, KIND(PING), 0);
	hear_end(fd);
	cr_expect_eq(rig_stats().idle_timeouts, 1);
}

Test(strangers, a_peer_that_vanishes_ends_its_calls)
{
	int fd = welcomed(NULL);
	show(fd, 1, "hold");
	step_until(is_held);
	cr_assert_eq(write(fd, "\0\0\1\0half", 8), 8);
	close(fd);
	step_until(all_gone);
	cr_expect_eq(held_ended, 1);
	cr_expect_eq(held_why, STATUS_UNAVAILABLE);
	cr_expect_eq(rig_stats().calls, 0);
	buffer_fini(&inbox);
}

static bool slow_reader_seen(void)
{
	return rig_stats().slow_readers > 0;
}

static void watch(int fd, uint64_t items, uint32_t credit)
{
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	request.cursor = items;
	tell(fd, KIND(CALL), 9, "postern.v1.Events/Watch", credit, &request.base);
}

Test(strangers, a_peer_that_never_reads_is_closed)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_queued_bytes = 256 * 1024;
	int fd = welcomed(&limits);
	watch(fd, 1000000, 2000000);
	step_until(slow_reader_seen);
	step_until(all_gone);
	cr_expect_eq(rig_stats().queued_bytes, 0);
	close(fd);
	buffer_fini(&inbox);
}

Test(strangers, the_heaviest_goes_when_all_together_hold_too_much)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_queued_bytes_total = 512 * 1024;
	int hog = welcomed(&limits);
	int other = stranger();
	hello(other, 1);
	hear_kind(other, KIND(WELCOME), 0);
	watch(hog, 1000000, 2000000);
	step_until(slow_reader_seen);
	show(other, 1, "gw1");
	hear_kind(other, KIND(REPLY), 0);
	cr_expect_eq(rig_stats().connections, 1);
	close(hog);
	close(other);
	buffer_fini(&inbox);
}
