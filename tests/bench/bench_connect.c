/* link: postern_agent_lib */
/* What a new connection costs through a gateway with so many live grants, against a gateway with
 * one plain `ct state` rule and no table of ours. Each gateway stands beside the others, between
 * the same client and the same remote; the rounds go around among them, so that a noisy machine
 * spoils all alike. Doors are installed by the agent's own datapath library, in this process.
 *
 * The network is made by tests/lab/bench.py: namespaces PREFIX-client, PREFIX-remote and
 * PREFIX-gwN, N = 0 being the plain one; gateway N has the networks 10.80.N.0/24 or fd80:N::/64 and
 * 10.81.N.0/24 or fd81:N::/64, with client and remote at address 2.
 *
 * Usage: bench_connect --prefix NAME [--doors 0,1000,1000000] [--rounds N] [--ms N] [--ipv6]
 * [--json] */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/datapath/nft.h"
#include "common/clock.h"
#include "common/config.h"

enum { GATEWAYS_MOST = 8, ROUNDS_MOST = 99, BATCH = 2000, PORT = 1046 };

struct settings {
	const char *prefix;
	uint64_t rounds, ms;
	bool ipv6, json;
	uint64_t doors[GATEWAYS_MOST]; /* of gateway 1 and on; 0 is the plain one */
	size_t gateways;
};

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_connect: %s: %s\n", what, why);
	exit(1);
}

static void enter(const struct settings *settings, const char *host)
{
	char path[128];
	snprintf(path, sizeof path, "/run/netns/%s-%s", settings->prefix, host);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
		die(path, strerror(errno));
	close(fd);
}

static struct addr side(const struct settings *settings, bool remote, size_t gateway)
{
	char text[ADDR_TEXT_SIZE];
	struct addr addr;
	snprintf(text, sizeof text, settings->ipv6 ? "fd8%d:%zu::2" : "10.8%d.%zu.2", remote,
		gateway);
	if (!addr_parse(text, &addr))
		die(text, "not an address");
	return addr;
}

/* ---- doors ---- */

/* The n-th of many, none of which lets the measured connections through. */
static struct door other_door(const struct settings *settings, size_t gateway, uint32_t n)
{
	struct door door = {.from = side(settings, false, gateway),
		.to = {side(settings, true, gateway), (uint16_t)(2000 + n % 50000)},
		.transport = IPPROTO_TCP};
	size_t last = addr_length(&door.from) - 3;
	door.from.bytes[last] = (uint8_t)(100 + (n >> 16));
	door.from.bytes[last + 1] = (uint8_t)(n >> 8);
	door.from.bytes[last + 2] = (uint8_t)n;
	return door;
}

static void add(struct nft *nft, struct door *doors, size_t count)
{
	static struct door_failure failures[BATCH];
	struct nft_change change = {.add = doors, .add_count = count};
	size_t failed = 0;
	struct error err;
	for (size_t i = 0; i < count; i++) {
		doors[i].grant = id_new();
		doors[i].timeout_ms = 3600 * 1000;
	}
	if (nft_apply(nft, &change, failures, &failed, &err))
		die("doors", err.text);
	if (failed > 0)
		die("a door was refused", failures[0].cause);
}

static void install(const struct settings *settings, size_t gateway)
{
	static struct door doors[BATCH];
	const struct nft_config config = {.table = "postern",
		.enforce = true,
		.priority = -10,
		.mark = 0x80000000,
		.mark_oneway = 0x40000000,
		.boot_id = "bench"};
	char host[16];
	struct nft *nft;
	enum nft_adoption adoption;
	struct error err;
	snprintf(host, sizeof host, "gw%zu", gateway);
	enter(settings, host);
	if (nft_open(&config, &nft, &err) || nft_install(nft, &adoption, &err))
		die(host, err.text);
	doors[0] = (struct door){.from = side(settings, false, gateway),
		.to = {side(settings, true, gateway), PORT},
		.transport = IPPROTO_TCP};
	add(nft, doors, 1); /* the one that is used: any number of connections */
	for (uint64_t n = 0; n < settings->doors[gateway];) {
		size_t count = 0;
		for (; count < BATCH && n < settings->doors[gateway]; n++)
			doors[count++] = other_door(settings, gateway, (uint32_t)n);
		add(nft, doors, count);
	}
	nft_close(nft);
}

/* ---- connections ---- */

static const struct linger abrupt = {.l_onoff = 1};

static void *serve(void *arg)
{
	const struct settings *settings = arg;
	enter(settings, "remote");
	struct sockaddr_in6 any = {
		.sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_addr = IN6ADDR_ANY_INIT};
	int off = 0, listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(listener, 4096) != 0)
		die("listen", strerror(errno));
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

/* Connections a second, one after the other, for so many milliseconds. */
static double measure(const struct settings *settings, size_t gateway)
{
	struct endpoint to = {side(settings, true, gateway), PORT};
	struct sockaddr_storage address;
	socklen_t size = (socklen_t)endpoint_to_sockaddr(&to, &address);
	int64_t began = clock_mono_us(), end = began + (int64_t)settings->ms * 1000, now = began;
	uint64_t count = 0;
	while (now < end) {
		int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&address, size) != 0)
			die("connect", strerror(errno));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt);
		close(fd);
		count++;
		now = clock_mono_us();
	}
	return (double)count * 1e6 / (double)(now - began);
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

struct figures {
	double median, least, most;
};

static struct figures summarize(const double *values, size_t count)
{
	double sorted[ROUNDS_MOST];
	memcpy(sorted, values, count * sizeof *values);
	qsort(sorted, count, sizeof *sorted, compare);
	double median =
		count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
	return (struct figures){median, sorted[0], sorted[count - 1]};
}

static void report(const struct settings *settings, double rates[GATEWAYS_MOST][ROUNDS_MOST])
{
	size_t rounds = (size_t)settings->rounds;
	if (settings->json)
		printf("{\"benchmark\":\"connect\",\"family\":%d,\"rounds\":%zu,\"ms\":%llu,"
		       "\"gateways\":[",
			settings->ipv6 ? 6 : 4, rounds, (unsigned long long)settings->ms);
	else
		printf("%-22s %12s %25s %8s %17s\n", "gateway", "connections/s", "least to most",
			"ratio", "least to most");
	for (size_t g = 0; g < settings->gateways; g++) {
		double ratios[ROUNDS_MOST];
		char name[64] = "one plain rule";
		for (size_t r = 0; r < rounds; r++)
			ratios[r] = rates[g][r] / rates[0][r]; /* of the same round */
		struct figures rate = summarize(rates[g], rounds),
			       ratio = summarize(ratios, rounds);
		unsigned long long doors = settings->doors[g];
		if (g > 0)
			snprintf(name, sizeof name, "%llu live grants", doors);
		if (settings->json)
			printf("%s{\"plain\":%s,\"grants\":%llu,\"rate\":%.0f,\"rate_least\":%.0f,"
			       "\"rate_most\":%.0f,\"ratio\":%.3f,\"ratio_least\":%.3f,\"ratio_"
			       "most\":%.3f}",
				g ? "," : "", g ? "false" : "true", doors, rate.median, rate.least,
				rate.most, ratio.median, ratio.least, ratio.most);
		else
			printf("%-22s %12.0f %12.0f %12.0f %8.3f %8.3f %8.3f\n", name, rate.median,
				rate.least, rate.most, ratio.median, ratio.least, ratio.most);
	}
	if (settings->json)
		printf("]}\n");
}

/* ---- main ---- */

static void read_doors(struct settings *settings, const char *text)
{
	char *rest;
	settings->gateways = 1;
	for (; settings->gateways < GATEWAYS_MOST; text = rest + 1) {
		errno = 0;
		unsigned long long count = strtoull(text, &rest, 10);
		if (rest == text || errno || count > 10000000)
			die("--doors", "write numbers up to 10000000 with commas: 0,1000,1000000");
		settings->doors[settings->gateways++] = count;
		if (*rest == '\0')
			return;
		if (*rest != ',')
			die("--doors", "write numbers with commas between: 0,1000,1000000");
	}
	die("--doors", "seven numbers at most");
}

static uint64_t read_number(const char *name, const char *text, uint64_t most)
{
	char *rest;
	unsigned long long value = strtoull(text, &rest, 10);
	if (*rest || rest == text || value < 1 || value > most)
		die(name, "a number from 1 on is needed");
	return value;
}

static struct settings parse(int argc, char **argv)
{
	static const struct option options[] = {{"prefix", required_argument, NULL, 'p'},
		{"doors", required_argument, NULL, 'd'}, {"rounds", required_argument, NULL, 'r'},
		{"ms", required_argument, NULL, 'm'}, {"ipv6", no_argument, NULL, '6'},
		{"json", no_argument, NULL, 'j'}, {0}};
	struct settings settings = {.rounds = 11, .ms = 300};
	read_doors(&settings, "0,1000,1000000");
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'p')
			settings.prefix = optarg;
		else if (option == 'd')
			read_doors(&settings, optarg);
		else if (option == 'r')
			settings.rounds = read_number("--rounds", optarg, ROUNDS_MOST);
		else if (option == 'm')
			settings.ms = read_number("--ms", optarg, 60000);
		else if (option == '6')
			settings.ipv6 = true;
		else if (option == 'j')
			settings.json = true;
		else
			exit(2);
	}
	if (!settings.prefix)
		die("--prefix", "name the namespaces: ./dev bench connect makes them");
	return settings;
}

int main(int argc, char **argv)
{
	static double rates[GATEWAYS_MOST][ROUNDS_MOST];
	struct settings settings = parse(argc, argv);
	pthread_t server;
	if (pthread_create(&server, NULL, serve, &settings) != 0)
		die("thread", strerror(errno));
	for (size_t g = 1; g < settings.gateways; g++) {
		int64_t began = clock_mono_us();
		install(&settings, g);
		fprintf(stderr, "%llu doors installed in %.2f s\n",
			(unsigned long long)settings.doors[g],
			(double)(clock_mono_us() - began) / 1e6);
	}
	enter(&settings, "client");
	for (size_t g = 0; g < settings.gateways; g++)
		measure(&settings, g); /* warm up, all alike */
	for (size_t r = 0; r < settings.rounds; r++)
		for (size_t i = 0; i < settings.gateways; i++) {
			size_t g = (i + r) % settings.gateways;
			rates[g][r] = measure(&settings, g);
		}
	report(&settings, rates);
	return 0;
}
