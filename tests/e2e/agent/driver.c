/* Drives the agent's datapath by hand: one command a line on standard input, answers on standard
 * output, each ended by a line "." (test_datapath.py is the user). Runs in the namespace it is
 * started in. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/conntrack.h"
#include "agent/datapath/nft.h"
#include "common/clock.h"

#define DOORS_MOST 5000

static struct nft *nft;
static struct conntrack *conntrack;
static const char *mode, *boot_id;

static void say_error(const struct error *err)
{
	printf("error %s %s\n", status_name(err->status), err->text);
}

static bool parse_door(char *text, struct door *door)
{
	char grant[64], client[64], remote[64], kind[8];
	unsigned port;
	memset(door, 0, sizeof *door);
	if (sscanf(text, "%63s %63s %63s %u %7s %" SCNu64 " %" SCNu64, grant, client, remote, &port,
		    kind, &door->uses, &door->timeout_ms) != 7)
		return false;
	door->to.port = (uint16_t)port;
	door->transport = strcmp(kind, "tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	door->oneway = strcmp(kind, "udp1") == 0;
	door->max_connections = door->uses;
	return id_parse(grant, &door->grant) && addr_parse(client, &door->from) &&
		addr_parse(remote, &door->to.addr);
}

/* "apply A R": the next A lines are additions, the R after them removals. */
static void apply(const char *arguments)
{
	static struct door add[DOORS_MOST], remove[DOORS_MOST];
	static struct door_failure failures[DOORS_MOST];
	size_t adds = 0, removes = 0, failed = 0;
	char line[512];
	struct error err;
	if (sscanf(arguments, "%zu %zu", &adds, &removes) != 2 || adds > DOORS_MOST ||
		removes > DOORS_MOST)
		exit(2);
	for (size_t i = 0; i < adds + removes; i++) {
		struct door *door = i < adds ? &add[i] : &remove[i - adds];
		if (!fgets(line, sizeof line, stdin) || !parse_door(line, door))
			exit(2);
	}
	int64_t began = clock_mono_us();
	if (nft_apply(nft, add, adds, remove, removes, failures, &failed, &err)) {
		say_error(&err);
		return;
	}
	printf("applied %" PRId64 "\n", clock_mono_us() - began);
	for (size_t i = 0; i < failed; i++) {
		char grant[ID_TEXT_SIZE];
		id_format(&failures[i].grant, grant);
		printf("refused %s %s\n", grant, failures[i].cause);
	}
}

static void dump(void)
{
	struct held_door *held = NULL;
	size_t count = 0;
	struct error err;
	int64_t began = clock_mono_us();
	if (nft_dump(nft, &held, &count, &err)) {
		say_error(&err);
		return;
	}
	printf("dumped %zu %" PRId64 "\n", count, clock_mono_us() - began);
	for (size_t i = 0; i < count; i++) {
		const struct door *door = &held[i].door;
		char grant[ID_TEXT_SIZE], client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
		struct held_door again;
		id_format(&door->grant, grant);
		addr_format(&door->from, client);
		addr_format(&door->to.addr, remote);
		printf("door %s %s %s %u %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", grant,
			client, remote, door->to.port,
			door->transport == IPPROTO_TCP ? "tcp"
				: door->oneway         ? "udp1"
						       : "udp",
			door->uses, door->timeout_ms, held[i].counter,
			count > 100 ||
					(nft_get(nft, door, &again) &&
						id_equal(&again.door.grant, &door->grant))
				? "got"
				: "missing");
	}
	free(held);
}

static void on_track(void *arg, enum track_event event, const struct tracked *flow)
{
	static const char *const names[] = {"", "new", "update", "destroy"};
	char grant[ID_TEXT_SIZE], client[ENDPOINT_TEXT_SIZE], remote[ENDPOINT_TEXT_SIZE];
	struct tracked copy = *flow;
	id_format(&flow->grant, grant);
	endpoint_format(&flow->client, client);
	endpoint_format(&flow->remote, remote);
	bool got = conntrack_get(conntrack, &copy);
	printf("%s %s %" PRIu64 " %s %s %u %s %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
	       " %" PRIu64 " %s\n",
		arg ? "flow" : names[event], grant, flow->id, client, remote, flow->transport,
		flow->is_over ? "over" : "live", flow->accounted ? "accounted" : "-",
		flow->packets_sent, flow->bytes_sent, flow->packets_received, flow->bytes_received,
		flow->duration_us, got ? "got" : "gone");
}

/* "events MS": those that wait, and those that come within MS after the last one. */
static void events(int wait_ms)
{
	struct pollfd poll_fd = {.fd = conntrack_fd(conntrack), .events = POLLIN};
	while (poll(&poll_fd, 1, wait_ms) > 0)
		if (conntrack_read(conntrack, on_track, NULL) == CONNTRACK_LOST)
			puts("lost");
}

static void watch(int wait_ms)
{
	struct pollfd poll_fd = {.fd = nft_watch_fd(nft), .events = POLLIN};
	struct nft_changes all = {0};
	while (poll(&poll_fd, 1, wait_ms) > 0) {
		struct nft_changes changes;
		nft_watch(nft, &changes);
		all.table |= changes.table;
		all.doors |= changes.doors;
		all.others |= changes.others;
		wait_ms = 50;
	}
	printf("changed%s%s%s\n", all.table ? " table" : "", all.doors ? " doors" : "",
		all.others ? " others" : "");
}

static void install(void)
{
	static const char *const names[] = {"", "created", "adopted", "replaced"};
	enum nft_adoption adoption;
	struct error err;
	if (nft_install(nft, &adoption, &err))
		say_error(&err);
	else
		printf("%s\n", names[adoption]);
}

static void problems(void)
{
	char text[2048];
	nft_find_problems(nft, text, sizeof text);
	printf("%s%s", text, text[0] ? "\n" : "");
}

static bool command(char *line)
{
	struct error err;
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "install") == 0)
		install();
	else if (strncmp(line, "apply ", 6) == 0)
		apply(line + 6);
	else if (strcmp(line, "dump") == 0)
		dump();
	else if (strncmp(line, "events ", 7) == 0)
		events((int)strtol(line + 7, NULL, 10));
	else if (strncmp(line, "watch ", 6) == 0)
		watch((int)strtol(line + 6, NULL, 10));
	else if (strcmp(line, "problems") == 0)
		problems();
	else if (strcmp(line, "flows") != 0)
		return false;
	else if (conntrack_dump(conntrack, on_track, &err, &err))
		say_error(&err);
	puts(".");
	fflush(stdout);
	return true;
}

/* driver enforce|overlay PRIORITY BOOT_ID */
int main(int argc, char **argv)
{
	struct error err;
	char line[512], refused[512];
	if (argc != 4)
		return 2;
	mode = argv[1];
	boot_id = argv[3];
	struct nft_config config = {.table = "postern",
		.enforce = strcmp(mode, "enforce") == 0,
		.priority = (int)strtol(argv[2], NULL, 10),
		.mark = 0x80000000U,
		.mark_oneway = 0x40000000U,
		.boot_id = boot_id};
	struct conntrack_config events_config = {
		.mark = config.mark, .buffer_bytes = 4 << 20, .buffer_most_bytes = 64 << 20};
	conntrack_prepare(refused, sizeof refused);
	if (refused[0])
		fprintf(stderr, "%s\n", refused);
	if (nft_open(&config, &nft, &err) || conntrack_open(&events_config, &conntrack, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	while (fgets(line, sizeof line, stdin))
		if (!command(line))
			return 2;
	conntrack_close(conntrack);
	nft_close(nft);
	return 0;
}
