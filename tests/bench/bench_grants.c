/* link: postern_shared postern_common nng::nng PkgConfig::NFTNL PkgConfig::MNL */
/* Latency of one grant, durable and installed, stage by stage, against the floor measured in the
 * same run.
 *
 * The floor is what no implementation of the design can avoid: one fdatasync of as many bytes, two
 * bare nng-stream round trips (caller to server, server to agent) and one netlink transaction that
 * adds one element of our kind. It is measured before the grants are asked for, interleaved in
 * rounds, so that a noisy machine spoils both sides alike.
 *
 * Usage: bench_grants --gateway NAME --client ADDR --remote ADDR --dir FOLDER [--protocol ftp]
 * [--count 500]
 *        [--cert server.pem --key server-key.pem --ca ca.pem] [--json FILE]
 * Server and token come from POSTERN_SERVER, POSTERN_TOKEN_FILE and POSTERN_CA_FILE. FOLDER lies on
 * the database's disk. With a certificate the bare round trips are: one over the transport of
 * POSTERN_SERVER, one over TLS as the agent's; without, over tcp. Needs root for the netlink part
 * (a network namespace of its own). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/config.h"
#include "common/file.h"

#include <postern/postern.h>

enum { MESSAGE_BYTES = 200, ROW_BYTES = 4096 * 3, COUNT_MAX = 100000, FLOOR_ROWS = 256 };

struct samples {
	double *us;
	size_t count;
};

struct settings {
	const char *gateway, *client, *remote, *dir, *protocol, *cert, *key, *ca, *json;
	uint64_t count;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_grants: %s: %s\n", what, why);
	exit(1);
}

static void samples_init(struct samples *samples, size_t capacity)
{
	samples->us = calloc(capacity, sizeof *samples->us);
	samples->count = 0;
	if (!samples->us)
		die("memory", "out of memory");
}

static void samples_add(struct samples *samples, double us)
{
	samples->us[samples->count++] = us;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double percentile(struct samples *samples, double share)
{
	if (samples->count == 0)
		return 0;
	qsort(samples->us, samples->count, sizeof *samples->us, compare_double);
	size_t at = (size_t)(share * (double)(samples->count - 1) + 0.5);
	return samples->us[at];
}

/* ---- floor: fdatasync ---- */

static void floor_fdatasync(const struct settings *settings, struct samples *ret)
{
	char path[4096];
	static char row[ROW_BYTES];
	snprintf(path, sizeof path, "%s/bench.XXXXXX", settings->dir);
	int fd = mkstemp(path);
	if (fd < 0)
		die(path,
			"cannot create a file: give --dir a writable folder on the database's "
			"disk");
	unlink(path);
	memset(row, 'x', sizeof row);
	/* Overwriting what is there already, as the database's log is from its second round on:
	 * appending costs twice as much. */
	for (int i = 0; i < FLOOR_ROWS; i++)
		if (write(fd, row, sizeof row) != (ssize_t)sizeof row)
			die(path, "write failed");
	if (fsync(fd) != 0)
		die(path, "fsync failed");
	for (uint64_t i = 0; i < settings->count; i++) {
		off_t at = (off_t)(i % FLOOR_ROWS) * (off_t)sizeof row;
		int64_t begin = clock_mono_us();
		if (pwrite(fd, row, sizeof row, at) != (ssize_t)sizeof row || fdatasync(fd) != 0)
			die(path, "write or fdatasync failed");
		samples_add(ret, (double)(clock_mono_us() - begin));
	}
	close(fd);
}

/* ---- floor: one netlink transaction, in a namespace of its own ---- */

static struct nftnl_expr *expression(const char *name)
{
	struct nftnl_expr *expr = nftnl_expr_alloc(name);
	if (!expr)
		die(name, "libnftnl does not know the expression");
	return expr;
}

static struct nftnl_set *door_map(void)
{
	struct nftnl_set *set = nftnl_set_alloc();
	static const uint8_t fields[4] = {4, 4, 1, 2};
	nftnl_set_set_str(set, NFTNL_SET_TABLE, "bench");
	nftnl_set_set_str(set, NFTNL_SET_NAME, "doors");
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS,
		NFT_SET_MAP | NFT_SET_TIMEOUT | NFT_SET_EXPR | NFT_SET_CONCAT);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, (((((7U << 6) | 7U) << 6) | 12U) << 6) | 13U);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, 16);
	nftnl_set_set_data(set, NFTNL_SET_DESC_CONCAT, fields, sizeof fields);
	nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, 8);
	nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, 16);
	nftnl_set_set_u32(set, NFTNL_SET_ID, 1);
	struct nftnl_expr *limit = expression("limit");
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, 1);
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, 604800);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_BURST, 1);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, 0);
	nftnl_set_add_expr(set, limit);
	nftnl_set_add_expr(set, expression("counter"));
	return set;
}

struct netlink {
	struct mnl_socket *socket;
	uint32_t sequence;
	char buffer[16384];
};

/* Sends the batch and reads as many acknowledgements as it asked for. */
static void transact(struct netlink *netlink, struct mnl_nlmsg_batch *batch, unsigned acks)
{
	char answer[8192];
	if (mnl_socket_sendto(
		    netlink->socket, mnl_nlmsg_batch_head(batch), mnl_nlmsg_batch_size(batch)) < 0)
		die("netlink", "send failed");
	while (acks > 0) {
		ssize_t size = mnl_socket_recvfrom(netlink->socket, answer, sizeof answer);
		if (size <= 0)
			die("netlink", "receive failed");
		int left = (int)size;
		for (struct nlmsghdr *message = (struct nlmsghdr *)answer;
			mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
			const struct nlmsgerr *error = mnl_nlmsg_get_payload(message);
			if (message->nlmsg_type != NLMSG_ERROR)
				continue;
			if (error->error != 0)
				die("netlink", strerror(-error->error));
			acks--;
		}
	}
}

static struct mnl_nlmsg_batch *batch_begin(struct netlink *netlink)
{
	struct mnl_nlmsg_batch *batch =
		mnl_nlmsg_batch_start(netlink->buffer, sizeof netlink->buffer / 2);
	nftnl_batch_begin(mnl_nlmsg_batch_current(batch), netlink->sequence++);
	mnl_nlmsg_batch_next(batch);
	return batch;
}

static void batch_finish(struct netlink *netlink, struct mnl_nlmsg_batch *batch, unsigned acks)
{
	nftnl_batch_end(mnl_nlmsg_batch_current(batch), netlink->sequence++);
	mnl_nlmsg_batch_next(batch);
	transact(netlink, batch, acks);
	mnl_nlmsg_batch_stop(batch);
}

static struct nlmsghdr *message(
	struct netlink *netlink, struct mnl_nlmsg_batch *batch, uint16_t type)
{
	return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch), type, NFPROTO_INET,
		NLM_F_CREATE | NLM_F_ACK, netlink->sequence++);
}

static void add_element(struct netlink *netlink, uint32_t i)
{
	struct mnl_nlmsg_batch *batch = batch_begin(netlink);
	struct nftnl_set *set = nftnl_set_alloc();
	nftnl_set_set_str(set, NFTNL_SET_TABLE, "bench");
	nftnl_set_set_str(set, NFTNL_SET_NAME, "doors");
	struct nftnl_set_elem *element = nftnl_set_elem_alloc();
	uint32_t key[4] = {
		htonl(0x0a4d0102U + i), htonl(0x0a4d0202U), htonl(6U << 24), htons(1046)};
	uint8_t data[16];
	memset(data, (int)(i & 0xff), sizeof data);
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, sizeof key);
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_DATA, data, sizeof data);
	nftnl_set_elem_set_u64(element, NFTNL_SET_ELEM_TIMEOUT, 60000);
	nftnl_set_elem_add(set, element);
	nftnl_set_elems_nlmsg_build_payload(message(netlink, batch, NFT_MSG_NEWSETELEM), set);
	mnl_nlmsg_batch_next(batch);
	batch_finish(netlink, batch, 1);
	nftnl_set_free(set);
}

static void netlink_child(uint64_t count, int out)
{
	static struct netlink netlink;
	if (unshare(CLONE_NEWNET) != 0)
		die("unshare", "no network namespace of my own: run as root");
	netlink.socket = mnl_socket_open(NETLINK_NETFILTER);
	if (!netlink.socket || mnl_socket_bind(netlink.socket, 0, MNL_SOCKET_AUTOPID) < 0)
		die("netlink", "cannot open a socket");
	netlink.sequence = 1;
	struct mnl_nlmsg_batch *batch = batch_begin(&netlink);
	struct nftnl_table *table = nftnl_table_alloc();
	nftnl_table_set_str(table, NFTNL_TABLE_NAME, "bench");
	nftnl_table_nlmsg_build_payload(message(&netlink, batch, NFT_MSG_NEWTABLE), table);
	mnl_nlmsg_batch_next(batch);
	struct nftnl_set *set = door_map();
	nftnl_set_nlmsg_build_payload(message(&netlink, batch, NFT_MSG_NEWSET), set);
	mnl_nlmsg_batch_next(batch);
	batch_finish(&netlink, batch, 2);
	nftnl_table_free(table);
	nftnl_set_free(set);
	for (uint64_t i = 0; i < count; i++) {
		int64_t begin = clock_mono_us();
		add_element(&netlink, (uint32_t)i);
		double us = (double)(clock_mono_us() - begin);
		if (write(out, &us, sizeof us) != (ssize_t)sizeof us)
			die("pipe", "write failed");
	}
	mnl_socket_close(netlink.socket);
	exit(0);
}

/* In a child, because unshare() is for the whole process and fork must come before nng starts its
 * threads. */
static void floor_netlink(const struct settings *settings, struct samples *ret)
{
	int ends[2], status = 0;
	double us;
	if (pipe(ends) != 0)
		die("pipe", "cannot make one");
	pid_t child = fork();
	if (child < 0)
		die("fork", "failed");
	if (child == 0) {
		close(ends[0]);
		netlink_child(settings->count, ends[1]);
	}
	close(ends[1]);
	while (read(ends[0], &us, sizeof us) == (ssize_t)sizeof us && ret->count < settings->count)
		samples_add(ret, us);
	close(ends[0]);
	if (waitpid(child, &status, 0) < 0 || status != 0)
		die("netlink", "the child failed");
}

/* ---- floor: bare nng-stream round trips ---- */

struct end {
	nng_stream *stream;
	nng_aio *aio;
};

static void nng_check(int rv, const char *what)
{
	if (rv != 0)
		die(what, nng_strerror(rv));
}

static void transfer(struct end *end, bool send, char *bytes, size_t size)
{
	while (size > 0) {
		nng_iov iov = {bytes, size};
		nng_check(nng_aio_set_iov(end->aio, 1, &iov), "iov");
		if (send)
			nng_stream_send(end->stream, end->aio);
		else
			nng_stream_recv(end->stream, end->aio);
		nng_aio_wait(end->aio);
		nng_check(nng_aio_result(end->aio), send ? "send" : "receive");
		bytes += nng_aio_count(end->aio);
		size -= nng_aio_count(end->aio);
	}
}

/* The far end echoes from its receive callback, as a server would: no thread waits for it. */
struct echo {
	struct end in, out;
	char bytes[MESSAGE_BYTES];
	size_t have;
};

static void echo_received(void *arg)
{
	struct echo *echo = arg;
	if (nng_aio_result(echo->in.aio) != 0)
		return;
	echo->have += nng_aio_count(echo->in.aio);
	if (echo->have == sizeof echo->bytes) {
		nng_iov iov = {echo->bytes, sizeof echo->bytes};
		(void)nng_aio_set_iov(echo->out.aio, 1, &iov);
		echo->have = 0;
		nng_stream_send(echo->out.stream, echo->out.aio);
	}
	nng_iov iov = {echo->bytes + echo->have, sizeof echo->bytes - echo->have};
	(void)nng_aio_set_iov(echo->in.aio, 1, &iov);
	nng_stream_recv(echo->in.stream, echo->in.aio);
}

static void echo_sent(void *arg)
{
	(void)arg;
}

static nng_tls_config *tls_config(const struct settings *settings, nng_tls_mode mode)
{
	nng_tls_config *config;
	nng_check(nng_tls_config_alloc(&config, mode), "tls");
	if (mode == NNG_TLS_MODE_SERVER) {
		char *cert = NULL, *key = NULL;
		if (file_read(settings->cert, 1 << 20, &cert, NULL, NULL) ||
			file_read(settings->key, 1 << 20, &key, NULL, NULL))
			die(settings->cert, "cannot read certificate and key");
		nng_check(nng_tls_config_own_cert(config, cert, key, NULL), "certificate");
		free(cert);
		file_free_secret(key);
	} else {
		nng_check(nng_tls_config_ca_file(config, settings->ca), settings->ca);
		nng_check(nng_tls_config_server_name(config, "127.0.0.1"), "server name");
	}
	return config;
}

static void floor_stream(const struct settings *settings, const char *url, struct samples *ret)
{
	static struct echo echo;
	nng_stream_listener *listener;
	nng_stream_dialer *dialer;
	nng_aio *accept, *dial;
	bool tls = strncmp(url, "tls", 3) == 0;
	char bytes[MESSAGE_BYTES], dial_url[256];
	memset(&echo, 0, sizeof echo);
	memset(bytes, 'x', sizeof bytes);
	snprintf(dial_url, sizeof dial_url, "%s", url);
	nng_check(nng_stream_listener_alloc(&listener, url), url);
	if (tls)
		nng_check(nng_stream_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG,
				  tls_config(settings, NNG_TLS_MODE_SERVER)),
			"tls");
	nng_check(nng_stream_listener_listen(listener), url);
	if (strncmp(url, "ipc", 3) != 0) {
		int port = 0;
		nng_check(nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port),
			"port");
		snprintf(dial_url, sizeof dial_url, "%s127.0.0.1:%d", tls ? "tls+tcp://" : "tcp://",
			port);
	}
	nng_check(nng_stream_dialer_alloc(&dialer, dial_url), dial_url);
	if (tls)
		nng_check(nng_stream_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG,
				  tls_config(settings, NNG_TLS_MODE_CLIENT)),
			"tls");
	nng_check(nng_aio_alloc(&accept, NULL, NULL), "aio");
	nng_check(nng_aio_alloc(&dial, NULL, NULL), "aio");
	nng_stream_listener_accept(listener, accept);
	nng_stream_dialer_dial(dialer, dial);
	nng_aio_wait(accept);
	nng_aio_wait(dial);
	nng_check(nng_aio_result(accept), "accept");
	nng_check(nng_aio_result(dial), dial_url);

	struct end near = {nng_aio_get_output(dial, 0), dial};
	echo.in.stream = echo.out.stream = nng_aio_get_output(accept, 0);
	nng_check(nng_aio_alloc(&echo.in.aio, echo_received, &echo), "aio");
	nng_check(nng_aio_alloc(&echo.out.aio, echo_sent, &echo), "aio");
	nng_iov iov = {echo.bytes, sizeof echo.bytes};
	nng_check(nng_aio_set_iov(echo.in.aio, 1, &iov), "iov");
	nng_stream_recv(echo.in.stream, echo.in.aio);
	for (uint64_t i = 0; i < settings->count; i++) {
		int64_t begin = clock_mono_us();
		transfer(&near, true, bytes, sizeof bytes);
		transfer(&near, false, bytes, sizeof bytes);
		samples_add(ret, (double)(clock_mono_us() - begin));
	}
	nng_stream_close(near.stream);
	nng_stream_close(echo.in.stream);
	nng_aio_stop(echo.in.aio);
	nng_aio_stop(echo.out.aio);
	nng_stream_listener_close(listener);
	/* Streams, dialer and listener go with the process: freeing them would add nothing to what
	 * is measured. */
}

/* ---- grants ---- */

struct stages {
	struct samples client, decide, commit, push, kernel;
};

static void ask(const struct settings *settings, struct stages *ret)
{
	struct postern_error err;
	struct postern *postern;
	struct postern_options options = {.name = "bench_grants"};
	if (postern_connect(&options, &postern, &err))
		die("connect", err.text);
	for (uint64_t i = 0; i < settings->count; i++) {
		struct postern_grant grant;
		struct postern_grant_request request = {
			.gateway = settings->gateway,
			.client = settings->client,
			.remote = settings->remote,
			.remote_port = (uint16_t)(20000 + i % 40000),
			.transport = POSTERN_TCP,
			.protocol = settings->protocol,
			.lifetime_ms = 60000,
		};
		int64_t begin = clock_mono_us();
		if (postern_allow_future_connect(postern, &request, &grant, &err))
			die("grant", err.text);
		samples_add(&ret->client, (double)(clock_mono_us() - begin));
		samples_add(&ret->decide, (double)grant.decide_us);
		samples_add(&ret->commit, (double)grant.commit_us);
		samples_add(&ret->push, (double)grant.push_us);
		samples_add(&ret->kernel, (double)grant.kernel_us);
		if (postern_cancel(postern, grant.id, &err))
			die("cancel", err.text);
	}
	postern_close(postern);
}

static void row(FILE *json, const char *name, struct samples *samples, const char *what)
{
	double p50 = percentile(samples, 0.5), p99 = percentile(samples, 0.99);
	printf("  %-22s %9.0f %9.0f   %s\n", name, p50, p99, what);
	if (json)
		fprintf(json, "\"%s\":{\"p50_us\":%.1f,\"p99_us\":%.1f},", name, p50, p99);
}

static void usage(void)
{
	fprintf(stderr,
		"usage: bench_grants --gateway NAME --client ADDR --remote ADDR --dir FOLDER "
		"[--protocol NAME]\n"
		"       [--count N] [--cert PEM --key PEM --ca PEM] [--json FILE]\n");
	exit(2);
}

static void parse(int argc, char **argv, struct settings *settings)
{
	static const struct option options[] = {{"gateway", required_argument, NULL, 'g'},
		{"client", required_argument, NULL, 'c'}, {"remote", required_argument, NULL, 'r'},
		{"dir", required_argument, NULL, 'd'}, {"protocol", required_argument, NULL, 'p'},
		{"count", required_argument, NULL, 'n'}, {"cert", required_argument, NULL, 'C'},
		{"key", required_argument, NULL, 'K'}, {"ca", required_argument, NULL, 'A'},
		{"json", required_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
	struct error err;
	for (int c = getopt_long(argc, argv, "", options, NULL); c != -1;
		c = getopt_long(argc, argv, "", options, NULL)) {
		switch (c) {
		case 'g':
			settings->gateway = optarg;
			break;
		case 'c':
			settings->client = optarg;
			break;
		case 'r':
			settings->remote = optarg;
			break;
		case 'd':
			settings->dir = optarg;
			break;
		case 'p':
			settings->protocol = optarg;
			break;
		case 'C':
			settings->cert = optarg;
			break;
		case 'K':
			settings->key = optarg;
			break;
		case 'A':
			settings->ca = optarg;
			break;
		case 'j':
			settings->json = optarg;
			break;
		case 'n':
			if (parse_number(optarg, 1, COUNT_MAX, &settings->count, &err))
				die("--count", err.text);
			break;
		default:
			usage();
		}
	}
	if (!settings->gateway || !settings->client || !settings->remote || !settings->dir)
		usage();
}

int main(int argc, char **argv)
{
	struct settings settings = {.protocol = "ftp", .count = 500};
	struct samples sync, kernel, near, far;
	struct stages stages;
	char ipc[4096];
	parse(argc, argv, &settings);
	for (size_t i = 0; i < 9; i++) {
		struct samples *all[] = {&sync, &kernel, &near, &far, &stages.client,
			&stages.decide, &stages.commit, &stages.push, &stages.kernel};
		samples_init(all[i], settings.count);
	}
	const char *server = getenv("POSTERN_SERVER");
	bool is_ipc = server && strncmp(server, "ipc", 3) == 0;
	const char *net = settings.cert && settings.key && settings.ca ? "tls+tcp://127.0.0.1:0"
								       : "tcp://127.0.0.1:0";
	snprintf(ipc, sizeof ipc, "ipc://%s/bench.%d.sock", settings.dir, (int)getpid());

	floor_netlink(&settings, &kernel);
	floor_fdatasync(&settings, &sync);
	floor_stream(&settings, is_ipc ? ipc : net, &near);
	floor_stream(&settings, net, &far);
	ask(&settings, &stages);
	unlink(ipc + strlen("ipc://"));

	FILE *json = settings.json ? fopen(settings.json, "w") : NULL;
	if (settings.json && !json)
		die(settings.json, "cannot write");
	if (json)
		fprintf(json, "{\"bench\":\"grants\",\"count\":%llu,",
			(unsigned long long)settings.count);
	printf("one grant, durable and installed, %llu in a row over %s (us)\n",
		(unsigned long long)settings.count, is_ipc ? "ipc" : "the network");
	printf("  %-22s %9s %9s\n", "", "p50", "p99");
	row(json, "client", &stages.client, "asked until answered, seen by the caller");
	row(json, "decide", &stages.decide, "server: parse, scope, rules");
	row(json, "commit", &stages.commit, "server: handed to the writer until on disk");
	row(json, "push", &stages.push, "server to agent and back, less the kernel's part");
	row(json, "kernel", &stages.kernel, "agent: netlink transaction");
	row(json, "floor_fdatasync", &sync, "one fdatasync of three database pages");
	row(json, "floor_stream_caller", &near, "bare nng-stream round trip, as the caller's");
	row(json, "floor_stream_agent", &far, "bare nng-stream round trip, as the agent's");
	row(json, "floor_netlink", &kernel, "one transaction that adds one element");
	double floor50 = percentile(&sync, 0.5) + percentile(&near, 0.5) + percentile(&far, 0.5) +
		percentile(&kernel, 0.5);
	double ratio50 = percentile(&stages.client, 0.5) / floor50,
	       ratio99 = percentile(&stages.client, 0.99) / floor50;
	printf("  ratio to the floor's sum (%.0f us): p50 %.2f, p99 %.2f\n", floor50, ratio50,
		ratio99);
	if (json) {
		fprintf(json, "\"floor_p50_us\":%.1f,\"ratio_p50\":%.3f,\"ratio_p99\":%.3f}\n",
			floor50, ratio50, ratio99);
		fclose(json);
	}
	fflush(stdout);
	/* nng_fini can hang under load (FACTS of nng 1.5.2); leaving by _exit is safe. */
	_exit(0);
}
