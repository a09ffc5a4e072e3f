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
#include "agent/datapath/nft_internal.h"
#include "common/clock.h"

#define DOORS_MOST 5000

static struct nft *nft;
static struct conntrack *conntrack;
static const char *mode, *boot_id;

static void say_error(const struct error *err)
{
	printf("error %s %s\n", status_name(err->status), err->text);
}

static bool parse_froms(char *text, struct door *door, struct addr *froms)
{
	char *rest = NULL;
	if (strcmp(text, "any") == 0)
		return true;
	if (!strchr(text, ','))
		return addr_parse(text, &door->from);
	door->froms = froms;
	for (char *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
		if (door->from_count == DOOR_FROMS_MAX ||
			!addr_parse(one, &froms[door->from_count++]))
			return false;
	return true;
}

/* "GRANT FROM TO PORT[-LAST] tcp|udp|udp1 USES TIMEOUT [snat|dnat OUTSIDE]"; FROM: an address,
 * several with commas, or any */
static bool parse_door(const char *text, struct door *door, struct addr *froms)
{
	char grant[64], from[1024], to[64], ports[16], kind[8], nat[8] = "", outside[64] = "";
	unsigned port = 0, last = 0;
	memset(door, 0, sizeof *door);
	if (sscanf(text, "%63s %1023s %63s %15s %7s %" SCNu64 " %" SCNu64 " %7s %63s", grant, from,
		    to, ports, kind, &door->uses, &door->timeout_ms, nat, outside) < 7 ||
		sscanf(ports, "%u-%u", &port, &last) < 1)
		return false;
	door->to.port = (uint16_t)port;
	door->to_port_last = (uint16_t)last;
	door->transport = strcmp(kind, "tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	door->oneway = strcmp(kind, "udp1") == 0;
	door->max_connections = door->uses;
	door->nat = strcmp(nat, "snat") == 0 ? DOOR_SNAT
		: strcmp(nat, "dnat") == 0   ? DOOR_DNAT
					     : DOOR_AS_IS;
	return id_parse(grant, &door->grant) && parse_froms(from, door, froms) &&
		addr_parse(to, &door->to.addr) &&
		(door->nat == DOOR_AS_IS || endpoint_parse(outside, false, &door->outside));
}

/* "apply A R N": the next A lines are additions, the R after them removals, the N after them
 * renewals. */
static void apply(const char *arguments)
{
	static struct door doors[DOORS_MOST];
	static struct addr froms[DOORS_MOST][DOOR_FROMS_MAX];
	static struct door_failure failures[DOORS_MOST];
	size_t adds = 0, removes = 0, renewals = 0, failed = 0;
	char line[2048];
	struct error err;
	if (sscanf(arguments, "%zu %zu %zu", &adds, &removes, &renewals) != 3 ||
		adds + removes + renewals > DOORS_MOST)
		exit(2);
	for (size_t i = 0; i < adds + removes + renewals; i++)
		if (!fgets(line, sizeof line, stdin) || !parse_door(line, &doors[i], froms[i]))
			exit(2);
	const struct nft_change change = {.add = doors,
		.add_count = adds,
		.remove = doors + adds,
		.remove_count = removes,
		.renew = doors + adds + removes,
		.renew_count = renewals};
	int64_t began = clock_mono_us();
	if (nft_apply(nft, &change, failures, &failed, &err)) {
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

static void say_froms(const struct door *door)
{
	char from[ADDR_TEXT_SIZE];
	addr_format(&door->from, from);
	if (door->from_count == 0)
		printf(" %s", from[0] ? from : "any");
	for (size_t i = 0; i < door->from_count; i++) {
		addr_format(&door->froms[i], from);
		printf("%s%s", i ? "," : " ", from);
	}
}

/* As parse_door reads it, and COUNTER whole|incomplete|expired got|missing. */
static void say_door(const struct held_door *held, bool got)
{
	static const char *const nats[] = {"-", "snat", "dnat"};
	const struct door *door = &held->door;
	char grant[ID_TEXT_SIZE], to[ADDR_TEXT_SIZE], outside[ENDPOINT_TEXT_SIZE] = "-";
	id_format(&door->grant, grant);
	addr_format(&door->to.addr, to);
	if (door->nat != DOOR_AS_IS)
		endpoint_format(&door->outside, outside);
	printf("door %s", grant);
	say_froms(door);
	printf(" %s %u-%u %s %" PRIu64 " %" PRIu64 " %s %s %" PRIu64 " %s %s\n", to[0] ? to : "-",
		door->to.port, door->to_port_last,
		door->transport == IPPROTO_TCP ? "tcp"
			: door->oneway         ? "udp1"
					       : "udp",
		door->uses, door->timeout_ms, nats[door->nat], outside, held->counter,
		held->expired              ? "expired"
			: held->incomplete ? "incomplete"
					   : "whole",
		got ? "got" : "missing");
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
		struct held_door again;
		say_door(&held[i],
			count > 100 ||
				(nft_get(nft, &held[i].door, &again) &&
					id_equal(&again.door.grant, &held[i].door.grant) &&
					again.door.uses == held[i].door.uses));
	}
	free(held);
}

/* Every door that is held is removed as a repair would: by what the dump tells of it. */
static void remove_held(void)
{
	struct held_door *held = NULL;
	struct door_failure none;
	struct error err;
	size_t count = 0, failed = 0;
	if (nft_dump(nft, &held, &count, &err)) {
		say_error(&err);
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (nft_apply(nft, &(struct nft_change){.remove = &held[i].door, .remove_count = 1},
			    &none, &failed, &err))
			say_error(&err);
	printf("removed %zu\n", count);
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

static void say_renewal(void)
{
	puts(nft_renewal(nft) == NFT_RENEW_IN_PLACE ? "in-place" : "replace");
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
	else if (strcmp(line, "remove-held") == 0)
		remove_held();
	else if (strcmp(line, "renewal") == 0)
		say_renewal();
	else if (strcmp(line, "before-6.3") == 0)
		nft->no_destroy = true;
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

static enum nft_renewal renewal_named(const char *name)
{
	return strcmp(name, "in-place") == 0   ? NFT_RENEW_IN_PLACE
		: strcmp(name, "replace") == 0 ? NFT_RENEW_REPLACE
					       : NFT_RENEW_AUTO;
}

/* driver enforce|overlay PRIORITY BOOT_ID auto|in-place|replace */
int main(int argc, char **argv)
{
	struct error err;
	char line[512], refused[512];
	if (argc != 5)
		return 2;
	mode = argv[1];
	boot_id = argv[3];
	struct nft_config config = {.table = "postern",
		.enforce = strcmp(mode, "enforce") == 0,
		.priority = (int)strtol(argv[2], NULL, 10),
		.mark = 0x80000000U,
		.mark_oneway = 0x40000000U,
		.renewal = renewal_named(argv[4]),
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
