/* How a client finds, trusts, loses and regains its server, and what it says when it cannot. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/proto/rig.h"

TestSuite(link, .init = rig_setup, .fini = rig_teardown, .timeout = 60);

static void refused(const struct rig_dial *how, enum status status, const char *words)
{
	rig_dial(how);
	step_until(is_error);
	cr_expect_eq(state_error.status, status, "%s", state_error.text);
	cr_expect_not_null(strstr(state_error.text, words), "%s", state_error.text);
	if (how->once)
		cr_expect_eq(state, RPC_CLIENT_CLOSED);
}

/* ---- who is there ---- */

Test(link, a_wrong_token_is_said_plainly)
{
	rig_serve("ipc", NULL);
	refused(&(struct rig_dial){.token = "wrong", .once = true}, STATUS_UNAUTHENTICATED,
		"unknown token");
}

Test(link, no_token)
{
	rig_serve("ipc", NULL);
	refused(&(struct rig_dial){.token = "", .once = true}, STATUS_UNAUTHENTICATED, "no token");
}

Test(link, a_wrong_ca_is_said_plainly)
{
	rig_make_certificates();
	rig_serve("tls+tcp", NULL);
	refused(&(struct rig_dial){.ca = "other.pem", .once = true}, STATUS_UNAVAILABLE,
		"certificate is not signed by the CA");
}

Test(link, a_certificate_of_another_host_is_refused)
{
	rig_make_certificates();
	rig_serve_as("tls+tcp", NULL, "elsewhere.pem", NULL);
	refused(&(struct rig_dial){.once = true}, STATUS_UNAVAILABLE, "does not name this host");
}

Test(link, the_name_to_expect_can_be_given)
{
	rig_make_certificates();
	rig_serve_as("tls+tcp", NULL, "elsewhere.pem", NULL);
	rig_dial(&(struct rig_dial){.server_name = "elsewhere.example"});
	step_until(is_ready);
}

Test(link, a_server_may_ask_for_certificates)
{
	rig_make_certificates();
	rig_serve_as("tls+tcp", NULL, "cert.pem", "ca.pem");
	rig_dial(&(struct rig_dial){.once = true});
	step_until(is_error);
	rpc_client_free(client);
	rig_dial(&(struct rig_dial){.cert = "person.pem"});
	step_until(is_ready);
}

Test(link, nobody_listens)
{
	snprintf(url, sizeof url, "ipc://%s/nothing", folder);
	refused(&(struct rig_dial){.once = true}, STATUS_UNAVAILABLE, "is posternd running?");
}

Test(link, no_such_host)
{
	snprintf(url, sizeof url, "tcp://nosuch.invalid:7411");
	refused(&(struct rig_dial){.once = true}, STATUS_UNAVAILABLE, "nosuch.invalid");
}

/* ---- not a Postern server ---- */

static int listen_raw(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "%s/raw", folder);
	snprintf(url, sizeof url, "ipc://%s/raw", folder);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	cr_assert_eq(listen(fd, 4), 0);
	return fd;
}

/* Accepts one connection, steps the loop until the hello is there, and answers with `bytes`. */
static int answer_raw(int listener, const void *bytes, size_t size)
{
	char hello[512];
	struct pollfd poll_listener = {.fd = listener, .events = POLLIN};
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (poll(&poll_listener, 1, 0) == 0 && clock_mono_us() < until)
		loop_step(loop, 10);
	int fd = accept(listener, NULL, NULL);
	cr_assert_geq(fd, 0);
	struct pollfd poll_hello = {.fd = fd, .events = POLLIN};
	while (poll(&poll_hello, 1, 0) == 0 && clock_mono_us() < until)
		loop_step(loop, 10);
	cr_assert_gt(read(fd, hello, sizeof hello), 0);
	cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
	return fd;
}

Test(link, something_else_answers)
{
	int listener = listen_raw();
	rig_dial(&(struct rig_dial){.once = true});
	int fd = answer_raw(listener, "SSH-2.0-OpenSSH_9.2\r\n", 21);
	step_until(is_error);
	cr_expect_not_null(strstr(state_error.text, "Postern"), "%s", state_error.text);
	close(fd);
	close(listener);
}

Test(link, a_server_of_another_version)
{
	/* Welcome{version 2} */
	static const uint8_t welcome[] = {0, 0, 0, 6, 0x10, 2, 0x4a, 2, 8, 2};
	int listener = listen_raw();
	rig_dial(&(struct rig_dial){.once = true});
	int fd = answer_raw(listener, welcome, sizeof welcome);
	step_until(is_error);
	cr_expect_eq(state_error.status, STATUS_FAILED_PRECONDITION);
	cr_expect_not_null(strstr(state_error.text, "version"), "%s", state_error.text);
	close(fd);
	close(listener);
}

Test(link, a_server_that_never_answers)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.hello_timeout_ms = 200;
	int listener = listen_raw();
	refused(&(struct rig_dial){.once = true, .limits = &limits}, STATUS_UNAVAILABLE,
		"no answer to the hello");
	close(listener);
}

Test(link, plain_to_a_port_with_tls)
{
	rig_make_certificates();
	rig_serve("tls+tcp", NULL);
	memmove(url, url + 4, strlen(url) - 3);
	refused(&(struct rig_dial){.once = true}, STATUS_UNAVAILABLE, "TLS");
}

Test(link, tls_to_a_port_without)
{
	char plain[sizeof url];
	rig_make_certificates();
	rig_serve("tcp", NULL);
	snprintf(plain, sizeof plain, "%s", url);
	snprintf(url, sizeof url, "tls+%.150s", plain);
	refused(&(struct rig_dial){.once = true}, STATUS_UNAVAILABLE, "welcome");
}

/* ---- losing and regaining ---- */

static void lost_and_regained(const char *transport)
{
	char again[sizeof url];
	rig_connect(transport);
	snprintf(again, sizeof again, "%s", url);
	ask("hold", NULL, &one, NULL);
	step_until(is_held);
	rpc_server_free(server);
	server = NULL;
	step_until(is_lost);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_UNAVAILABLE, "%d %s", one.err.status, one.err.text);
	cr_expect_eq(held_ended, 1);
	struct rpc_call_options options = {.deadline_ms = 9000, .wait_for_ready = true};
	cr_assert_eq(ask("later", &options, &one, NULL), STATUS_OK);
	rig_serve(again, NULL);
	step_until(one_done);
	cr_expect_str_eq(one.name, "later", "%s", one.err.text);
	cr_expect_eq(ready_count, 2);
}

Test(link, lost_over_ipc)
{
	lost_and_regained("ipc");
}

Test(link, lost_over_tcp)
{
	lost_and_regained("tcp");
}

Test(link, lost_over_tls)
{
	lost_and_regained("tls+tcp");
}

Test(link, a_call_that_waits_ends_at_its_deadline)
{
	snprintf(url, sizeof url, "ipc://%s/nothing", folder);
	rig_dial(&(struct rig_dial){0});
	cr_expect_eq(ask("x", NULL, &one, NULL), STATUS_UNAVAILABLE);
	struct rpc_call_options options = {.deadline_ms = 200, .wait_for_ready = true};
	cr_assert_eq(ask("x", &options, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_DEADLINE_EXCEEDED);
	cr_expect_eq(one.err.reason, REASON_DEADLINE);
}

Test(link, one_try_ends_the_calls_that_wait_with_the_cause)
{
	rig_serve("ipc", NULL);
	rig_dial(&(struct rig_dial){.token = "wrong", .once = true});
	struct rpc_call_options options = {.wait_for_ready = true};
	cr_assert_eq(ask("x", &options, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_UNAUTHENTICATED, "%s", one.err.text);
}

Test(link, close_ends_calls_with_cancelled)
{
	rig_connect("ipc");
	ask("hold", NULL, &one, NULL);
	rpc_client_close(client);
	cr_expect(one.done);
	cr_expect_eq(one.err.status, STATUS_CANCELLED);
	cr_expect_eq(ask("x", NULL, &one, NULL), STATUS_CANCELLED);
}

Test(link, a_principal_can_be_disconnected)
{
	rig_connect("tls+tcp");
	rpc_server_disconnect(server, "somebody else", "no");
	rpc_server_disconnect(server, "tester", "its token was revoked");
	step_until(is_lost);
	cr_expect_eq(state_error.status, STATUS_ABORTED);
	cr_expect_not_null(strstr(state_error.text, "revoked"), "%s", state_error.text);
}

/* ---- liveness ---- */

static int64_t quiet_until;

static bool quiet_over(void)
{
	return clock_mono_us() >= quiet_until;
}

Test(link, heartbeats_keep_an_idle_connection_alive)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.heartbeat_ms = 50;
	limits.idle_timeout_ms = 200;
	rig_serve("ipc", &limits);
	rig_dial(&(struct rig_dial){.once = true}); /* its own limits are longer: it adopts these */
	step_until(is_ready);
	quiet_until = clock_mono_us() + 1000000;
	step_until(quiet_over);
	cr_expect_eq(state, RPC_CLIENT_READY, "%s", state_error.text);
	cr_expect_eq(rig_stats().idle_timeouts, 0);
}

/* nng 1.5.2 tells nobody whose receive is posted after the transport under TLS has failed, and the
 * last words of a peer have just used up a receive. The idle limit (30 s) would find it; the
 * deadline of this test (10 s) does not wait for that. */
Test(link, a_peer_that_speaks_and_vanishes_is_noticed_at_once)
{
	rig_make_certificates();
	rig_serve("tls+tcp", NULL);
	for (int i = 0; i < 40; i++) {
		rig_dial(&(struct rig_dial){.once = true});
		step_until(is_ready);
		ask("gw1", NULL, &one, NULL);
		rpc_client_close(client);
		rpc_client_free(client);
		client = NULL;
	}
	step_until(all_gone);
	cr_expect_eq(rig_stats().accepted, 40);
}

/* ---- listening ---- */

Test(link, a_socket_file_left_behind_is_replaced)
{
	struct stat found;
	pid_t child = fork();
	if (child == 0) {
		close(listen_raw());
		_exit(0);
	}
	waitpid(child, NULL, 0);
	char raw[sizeof url];
	snprintf(raw, sizeof raw, "ipc://%s", rig_path("raw"));
	cr_assert_eq(stat(rig_path("raw"), &found), 0);
	rig_serve(raw, NULL);
	cr_assert_eq(stat(rig_path("raw"), &found), 0);
	cr_expect_eq(found.st_mode & 0777, 0600);
	rig_dial(&(struct rig_dial){0});
	step_until(is_ready);
}

Test(link, a_live_server_is_not_replaced)
{
	struct error err;
	struct rpc_server_config config = {.loop = loop, .limits = rpc_default_limits};
	struct rpc_server *second;
	rig_connect("ipc");
	cr_assert_eq(rpc_server_new(&config, &second, &err), STATUS_OK);
	cr_expect_eq(rpc_server_listen(second, url, &err), STATUS_FAILED_PRECONDITION);
	cr_expect_not_null(strstr(err.text, "another server"), "%s", err.text);
	rpc_server_free(second);
	ask("gw1", NULL, &one, NULL);
	step_until(one_done);
	cr_expect_str_eq(one.name, "gw1");
}

Test(link, a_file_at_the_place_of_the_socket_is_not_deleted)
{
	struct error err;
	struct stat found;
	struct rpc_server_config config = {.loop = loop, .limits = rpc_default_limits};
	snprintf(url, sizeof url, "ipc://%s/precious", folder);
	int fd = open(rig_path("precious"), O_CREAT | O_WRONLY, 0600);
	cr_assert_geq(fd, 0);
	close(fd);
	cr_assert_eq(rpc_server_new(&config, &server, &err), STATUS_OK);
	cr_expect_eq(rpc_server_listen(server, url, &err), STATUS_FAILED_PRECONDITION);
	cr_assert_eq(stat(rig_path("precious"), &found), 0);
	cr_expect(S_ISREG(found.st_mode));
}

static void listen_too(const char *host, unsigned port)
{
	struct error err = {0};
	char too[64];
	snprintf(too, sizeof too, "tls+tcp://%s:%u", host, port);
	cr_assert_eq(rpc_server_listen(server, too, &err), STATUS_OK, "%s", err.text);
}

static void reachable(const char *host, unsigned port)
{
	snprintf(url, sizeof url, "tls+tcp://%s:%u", host, port);
	rig_dial(&(struct rig_dial){.once = true});
	step_until(is_ready);
	rpc_client_free(client);
	client = NULL;
}

static unsigned port_of(const char *text)
{
	return (unsigned)strtoul(strrchr(text, ':') + 1, NULL, 10);
}

static void both_families(const char *first, const char *second)
{
	char text[64];
	rig_make_certificates();
	snprintf(text, sizeof text, "tls+tcp://%s:0", first);
	rig_serve(text, NULL);
	unsigned port = port_of(url);
	listen_too(second, port);
	reachable("127.0.0.1", port);
	reachable("[::1]", port);
	reachable("localhost", port);
}

Test(link, every_address_listed_twice)
{
	both_families("0.0.0.0", "[::]");
}

Test(link, every_address_listed_twice_the_other_way_round)
{
	both_families("[::]", "0.0.0.0");
}

Test(link, every_address_with_a_star)
{
	both_families("*", "*");
}

Test(link, plain_tcp_is_for_loopback_only)
{
	static const char *const bad[] = {"tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://10.0.0.1:0",
		"tcp://127.0.0.1.example:0", "tcp://*:0"};
	struct error err;
	struct rpc_server_config config = {.loop = loop, .limits = rpc_default_limits};
	cr_assert_eq(rpc_server_new(&config, &server, &err), STATUS_OK);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_expect_eq(rpc_server_listen(server, bad[i], &err), STATUS_INVALID_ARGUMENT, "%s",
			bad[i]);
}

static void copy_file(const char *from, const char *to)
{
	char command[512];
	snprintf(command, sizeof command, "cp %s %s", rig_path(from), rig_path(to));
	/* allowed: a fixed command on the test's own folder */
	cr_assert_eq(system(command), 0);
}

Test(link, certificates_are_read_again)
{
	struct error err = {0};
	rig_make_certificates();
	copy_file("elsewhere.pem", "live.pem");
	copy_file("elsewhere.key", "live.key");
	rig_serve_as("tls+tcp", NULL, "live.pem", NULL);
	copy_file("cert.pem", "live.pem");
	copy_file("cert.key", "live.key");
	cr_assert_eq(rpc_server_reload_tls(server, &err), STATUS_OK, "%s", err.text);
	rig_dial(&(struct rig_dial){.once = true}); /* the very next connection sees the new one */
	step_until(is_ready);
	rpc_client_free(client);
	client = NULL;
	copy_file("ca.key", "live.pem");
	cr_expect_eq(rpc_server_reload_tls(server, &err), STATUS_INVALID_ARGUMENT);
	reachable("127.0.0.1", port_of(url));
}
