/* link: postern_rpc nng::nng */
/* What a unary call costs against a bare nng stream, in the same run: latency of one call at a time
 * (p50, p99, and their ratio to a bare round trip of as many bytes), and calls a second with many
 * in flight. The server is a process of its own; bare and RPC rounds alternate, so that a noisy
 * machine spoils both alike.
 *
 * Usage: bench_rpc [--count N] [--cert server.pem --key server-key.pem --ca ca.pem]
 * Transports: ipc, tcp, and tls+tcp (to 127.0.0.1) when a certificate is given. */
#include <getopt.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/config.h"
#include "common/file.h"
#include "common/loop.h"
#include "postern/v1/gateways.pb-c.h"
#include "proto/rpc/rpc.h"

enum { ROUNDS = 20, BYTES = 120, IN_FLIGHT = 64, WARM_UP = 200 };

struct settings {
	const char *cert, *key, *ca;
	uint64_t count;
};

struct samples {
	int64_t *us;
	size_t count;
};

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_rpc: %s: %s\n", what, why);
	exit(1);
}

static void must(int rv, const char *what)
{
	if (rv != 0)
		die(what, nng_strerror(rv));
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double percentile(struct samples *samples, double share)
{
	qsort(samples->us, samples->count, sizeof *samples->us, compare);
	return (double)samples->us[(size_t)(share * (double)(samples->count - 1))];
}

/* ---- the other process: an RPC server, and an echo on a bare stream ---- */

static void show(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayShowRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	Postern__V1__Gateway reply = POSTERN__V1__GATEWAY__INIT;
	(void)service;
	(void)closure;
	reply.name = input->name;
	rpc_reply(data, &reply.base);
}

static enum status authenticate(void *arg, const char *token, const char *name,
	struct rpc_principal *ret, struct error *err)
{
	(void)arg;
	(void)token;
	(void)name;
	(void)err;
	memset(ret, 0, sizeof *ret);
	ret->role = RPC_ROLE_ADMIN;
	return STATUS_OK;
}

static enum status authorise(
	void *arg, const struct rpc_principal *principal, const char *method, struct error *err)
{
	(void)arg;
	(void)principal;
	(void)method;
	(void)err;
	return STATUS_OK;
}

struct echo {
	nng_stream_listener *listener;
	nng_stream *stream;
	nng_aio *accept, *receive, *send;
	char bytes[BYTES];
};

static void echo_receive(struct echo *echo)
{
	nng_iov iov = {.iov_buf = echo->bytes, .iov_len = sizeof echo->bytes};
	nng_aio_set_iov(echo->receive, 1, &iov);
	nng_stream_recv(echo->stream, echo->receive);
}

static void echo_received(void *arg)
{
	struct echo *echo = arg;
	nng_iov iov = {.iov_buf = echo->bytes};
	if (nng_aio_result(echo->receive) != 0)
		return;
	iov.iov_len = nng_aio_count(echo->receive);
	nng_aio_set_iov(echo->send, 1, &iov);
	nng_stream_send(echo->stream, echo->send);
}

static void echo_sent(void *arg)
{
	struct echo *echo = arg;
	if (nng_aio_result(echo->send) == 0)
		echo_receive(echo);
}

static void echo_accepted(void *arg)
{
	struct echo *echo = arg;
	if (nng_aio_result(echo->accept) != 0)
		return;
	echo->stream = nng_aio_get_output(echo->accept, 0);
	echo_receive(echo);
}

static nng_tls_config *bare_tls(const struct settings *settings, bool server)
{
	nng_tls_config *config;
	char *cert = NULL, *key = NULL, *ca = NULL;
	struct error err;
	must(nng_tls_config_alloc(&config, server ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT),
		"TLS");
	if (server) {
		if (file_read(settings->cert, 1 << 18, &cert, NULL, &err) ||
			file_read(settings->key, 1 << 18, &key, NULL, &err))
			die("certificate", err.text);
		must(nng_tls_config_own_cert(config, cert, key, NULL), settings->cert);
	} else {
		if (file_read(settings->ca, 1 << 18, &ca, NULL, &err))
			die("CA", err.text);
		must(nng_tls_config_ca_chain(config, ca, NULL), settings->ca);
		must(nng_tls_config_server_name(config, "127.0.0.1"), "name");
	}
	free(cert);
	free(key);
	free(ca);
	return config;
}

static int echo_start(struct echo *echo, const struct settings *settings, const char *url)
{
	int port = 0;
	must(nng_stream_listener_alloc(&echo->listener, url), url);
	if (strncmp(url, "tls", 3) == 0)
		must(nng_stream_listener_set_ptr(
			     echo->listener, NNG_OPT_TLS_CONFIG, bare_tls(settings, true)),
			url);
	if (strncmp(url, "ipc", 3) != 0)
		must(nng_stream_listener_set_bool(echo->listener, NNG_OPT_TCP_NODELAY, true), url);
	must(nng_aio_alloc(&echo->accept, echo_accepted, echo), url);
	must(nng_aio_alloc(&echo->receive, echo_received, echo), url);
	must(nng_aio_alloc(&echo->send, echo_sent, echo), url);
	must(nng_stream_listener_listen(echo->listener), url);
	if (strncmp(url, "ipc", 3) != 0)
		must(nng_stream_listener_get_int(echo->listener, NNG_OPT_TCP_BOUND_PORT, &port),
			url);
	nng_stream_listener_accept(echo->listener, echo->accept);
	return port;
}

/* Writes the RPC server's URL and the echo's port to `out`, then serves until it is killed. */
static _Noreturn void serve(
	const struct settings *settings, const char *url, const char *bare_url, int out)
{
	static Postern__V1__Gateways_Service gateways = {
		.base = POSTERN__V1__GATEWAYS__BASE_INIT, .show = show};
	static struct echo echo;
	struct loop *loop;
	struct rpc_server *server;
	struct error err = {0};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (loop_new(&loop, &err))
		die("loop", err.text);
	struct rpc_server_config config = {.loop = loop,
		.limits = rpc_default_limits,
		.tls_cert_file = settings->cert,
		.tls_key_file = settings->key,
		.authenticate = authenticate,
		.authorise = authorise};
	if (rpc_server_new(&config, &server, &err) ||
		rpc_server_add(server, &gateways.base, &err) ||
		rpc_server_listen(server, url, &err))
		die("server", err.text);
	dprintf(out, "%s %d\n", rpc_server_url(server, 0), echo_start(&echo, settings, bare_url));
	close(out);
	loop_run(loop);
	exit(0);
}

/* ---- this process ---- */

struct bare {
	nng_stream *stream;
	nng_aio *aio;
	char bytes[BYTES];
};

static void bare_connect(struct bare *bare, const struct settings *settings, const char *url)
{
	nng_stream_dialer *dialer;
	must(nng_aio_alloc(&bare->aio, NULL, NULL), url);
	must(nng_stream_dialer_alloc(&dialer, url), url);
	if (strncmp(url, "tls", 3) == 0)
		must(nng_stream_dialer_set_ptr(
			     dialer, NNG_OPT_TLS_CONFIG, bare_tls(settings, false)),
			url);
	if (strncmp(url, "ipc", 3) != 0)
		must(nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true), url);
	nng_stream_dialer_dial(dialer, bare->aio);
	nng_aio_wait(bare->aio);
	must(nng_aio_result(bare->aio), url);
	bare->stream = nng_aio_get_output(bare->aio, 0);
}

static void bare_transfer(struct bare *bare, void (*transfer)(nng_stream *, nng_aio *))
{
	for (size_t done = 0; done < sizeof bare->bytes; done += nng_aio_count(bare->aio)) {
		nng_iov iov = {.iov_buf = bare->bytes + done, .iov_len = sizeof bare->bytes - done};
		nng_aio_set_iov(bare->aio, 1, &iov);
		transfer(bare->stream, bare->aio);
		nng_aio_wait(bare->aio);
		must(nng_aio_result(bare->aio), "bare stream");
	}
}

static int64_t bare_round_trip(struct bare *bare)
{
	int64_t begin = clock_mono_us();
	bare_transfer(bare, nng_stream_send);
	bare_transfer(bare, nng_stream_recv);
	return clock_mono_us() - begin;
}

struct caller {
	struct loop *loop;
	struct rpc_client *client;
	bool ready;
	uint64_t answered;
	char name[BYTES];
};

static void on_state(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
	const struct error *err)
{
	struct caller *caller = arg;
	(void)welcome;
	caller->ready = state == RPC_CLIENT_READY;
	if (state == RPC_CLIENT_CLOSED)
		die("client", err->text);
}

static void caller_connect(struct caller *caller, const struct settings *settings, const char *url)
{
	struct error err = {0};
	if (loop_new(&caller->loop, &err))
		die("loop", err.text);
	struct rpc_client_config config = {.loop = caller->loop,
		.limits = rpc_default_limits,
		.url = url,
		.token = "bench",
		.ca_file = settings->ca,
		.arg = caller,
		.on_state = on_state};
	if (rpc_client_new(&config, &caller->client, &err))
		die("client", err.text);
	rpc_client_start(caller->client);
	while (!caller->ready)
		loop_step(caller->loop, -1);
	/* Together with the frame's own fields as many bytes as the bare side sends. */
	memset(caller->name, 'x', BYTES - 44);
}

static void on_answer(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct caller *caller = arg;
	if (!reply)
		die("call", err->text);
	caller->answered++;
}

static void ask(struct caller *caller)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	struct rpc_call_options options = {.deadline_ms = 10000};
	struct error err = {0};
	request.name = caller->name;
	if (rpc_client_call(caller->client, &postern__v1__gateways__descriptor, "Show",
		    &request.base, &options, on_answer, caller, NULL, &err))
		die("call", err.text);
}

static int64_t call_round_trip(struct caller *caller)
{
	int64_t begin = clock_mono_us();
	uint64_t before = caller->answered;
	ask(caller);
	while (caller->answered == before)
		loop_step(caller->loop, -1);
	return clock_mono_us() - begin;
}

static double calls_a_second(struct caller *caller, uint64_t count)
{
	int64_t begin = clock_mono_us();
	uint64_t before = caller->answered, asked = 0;
	while (caller->answered - before < count) {
		while (asked < count && asked - (caller->answered - before) < IN_FLIGHT) {
			ask(caller);
			asked++;
		}
		loop_step(caller->loop, -1);
	}
	return (double)count * 1e6 / (double)(clock_mono_us() - begin);
}

static void report(const char *transport, struct samples *bare, struct samples *call, double rate)
{
	double bare_50 = percentile(bare, 0.5), bare_99 = percentile(bare, 0.99);
	double call_50 = percentile(call, 0.5), call_99 = percentile(call, 0.99);
	printf("%-8s %9.0f %9.0f %9.0f %9.0f %8.2f %8.2f %12.0f\n", transport, bare_50, bare_99,
		call_50, call_99, call_50 / bare_50, call_99 / bare_99, rate);
	fflush(stdout);
}

static void measure(const struct settings *settings, const char *transport, const char *url,
	const char *bare_url)
{
	struct samples bare_us = {.us = calloc(settings->count, sizeof(int64_t))};
	struct samples call_us = {.us = calloc(settings->count, sizeof(int64_t))};
	static struct bare bare;
	static struct caller caller;
	if (!bare_us.us || !call_us.us)
		die("memory", "out of memory");
	memset(&caller, 0, sizeof caller);
	bare_connect(&bare, settings, bare_url);
	caller_connect(&caller, settings, url);
	for (int i = 0; i < WARM_UP; i++) {
		bare_round_trip(&bare);
		call_round_trip(&caller);
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (uint64_t i = 0; i < settings->count / ROUNDS; i++)
			bare_us.us[bare_us.count++] = bare_round_trip(&bare);
		for (uint64_t i = 0; i < settings->count / ROUNDS; i++)
			call_us.us[call_us.count++] = call_round_trip(&caller);
	}
	report(transport, &bare_us, &call_us, calls_a_second(&caller, settings->count * 4));
	rpc_client_free(caller.client);
	loop_free(caller.loop);
	nng_stream_close(bare.stream);
	free(bare_us.us);
	free(call_us.us);
}

/* Each transport in two processes of its own: nng allows no fork after it was used. */
static void bench(const struct settings *settings, const char *transport)
{
	char folder[] = "/tmp/bench_rpc.XXXXXX", listen[128], bare[128], url[128], line[200] = "";
	int port = 0, out[2];
	const bool is_ipc = strcmp(transport, "ipc") == 0;
	if (!mkdtemp(folder) || pipe(out) != 0)
		die("start", "no folder or no pipe");
	snprintf(listen, sizeof listen, is_ipc ? "ipc://%s/rpc" : "%s://127.0.0.1:0",
		is_ipc ? folder : transport);
	snprintf(bare, sizeof bare, is_ipc ? "ipc://%s/bare" : "%s://127.0.0.1:0",
		is_ipc ? folder : transport);
	pid_t child = fork();
	if (child == 0) {
		close(out[0]);
		serve(settings, listen, bare, out[1]);
	}
	close(out[1]);
	FILE *in = fdopen(out[0], "r");
	if (!in || !fgets(line, sizeof line, in) || sscanf(line, "%127s %d", url, &port) != 2)
		die("start", "the server did not");
	fclose(in);
	if (!is_ipc)
		snprintf(bare, sizeof bare, "%s://127.0.0.1:%d", transport, port);
	measure(settings, transport, url, bare);
	kill(child, SIGKILL);
	snprintf(line, sizeof line, "%s/rpc", folder);
	unlink(line);
	snprintf(line, sizeof line, "%s/bare", folder);
	unlink(line);
	rmdir(folder);
}

static void parse(int argc, char **argv, struct settings *settings)
{
	static const struct option options[] = {
		{"count", required_argument, NULL, 'n'},
		{"cert", required_argument, NULL, 'c'},
		{"key", required_argument, NULL, 'k'},
		{"ca", required_argument, NULL, 'a'},
		{NULL, 0, NULL, 0},
	};
	struct error err = {0};
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'n' && parse_number(optarg, ROUNDS, 1000000, &settings->count, &err))
			die("--count", err.text);
		else if (option == 'c')
			settings->cert = optarg;
		else if (option == 'k')
			settings->key = optarg;
		else if (option == 'a')
			settings->ca = optarg;
		else if (option == '?')
			exit(2);
	}
}

int main(int argc, char **argv)
{
	struct settings settings = {.count = 10000};
	static const char *const transports[] = {"ipc", "tcp", "tls+tcp"};
	parse(argc, argv, &settings);
	const bool has_tls = settings.cert && settings.key && settings.ca;
	printf("%d bytes, %llu round trips each, one at a time; then %d in flight\n", BYTES,
		(unsigned long long)settings.count, IN_FLIGHT);
	printf("%-8s %9s %9s %9s %9s %8s %8s %12s\n", "", "bare p50", "bare p99", "call p50",
		"call p99", "x p50", "x p99", "calls/s");
	fflush(stdout);
	for (int i = 0; i < (has_tls ? 3 : 2); i++) {
		pid_t child = fork();
		if (child == 0) {
			bench(&settings, transports[i]);
			exit(0);
		}
		int status;
		if (waitpid(child, &status, 0) != child || status != 0)
			return 1;
	}
	return 0;
}
