/* Drives a whole agent without its server: items of the stream of doors are given by hand, and the
 * reports that wait for the server are read. One command a line on standard input, answers on
 * standard output, each ended by a line "." (agent_lab.py is the user). Runs in the namespace it is
 * started in. */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "common/clock.h"
#include "common/log.h"

#define MOST 64

static struct loop *loop;
static struct agent *agent;

/* What the next "apply" takes. */
static struct door doors[MOST];
static struct addr froms[MOST][DOOR_FROMS_MAX];
static struct id removed[MOST], cut[MOST], unfollowed[MOST];
static struct sync_primary primaries[MOST];
static struct sync_item item;

static void bad(const char *line)
{
	fprintf(stderr, "driver: cannot understand \"%s\"\n", line);
	exit(2);
}

static uint8_t transport_of(const char *kind)
{
	return strcmp(kind, "tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP;
}

/* "ADDRESS", several with commas between, or "-". */
static bool read_froms(char *text, struct door *door, struct addr *list)
{
	size_t count = 0;
	if (strcmp(text, "-") == 0)
		return true;
	for (char *at = text, *end; at; at = end) {
		end = strchr(at, ',');
		if (end)
			*end++ = '\0';
		if (count == DOOR_FROMS_MAX || !addr_parse(at, &list[count++]))
			return false;
	}
	if (count == 1) {
		door->from = list[0];
	} else {
		door->froms = list;
		door->from_count = count;
	}
	return true;
}

/* door GRANT FROM TO PORT LAST tcp|udp|udp1 MAX MADE MS [snat|dnat OUTSIDE PORT] */
static bool read_door(const char *line)
{
	struct door *door = &doors[item.door_count];
	char grant[40], from[512], to[48], kind[8], nat[8] = "", outside[48] = "";
	unsigned port, last, outside_port = 0;
	memset(door, 0, sizeof *door);
	int fields = sscanf(line,
		"%39s %511s %47s %u %u %7s %" SCNu64 " %" SCNu64 " %" SCNu64 " %7s %47s %u", grant,
		from, to, &port, &last, kind, &door->max_connections, &door->connections,
		&door->timeout_ms, nat, outside, &outside_port);
	if ((fields != 9 && fields != 12) || !id_parse(grant, &door->grant) ||
		!read_froms(from, door, froms[item.door_count]) || !addr_parse(to, &door->to.addr))
		return false;
	door->to.port = (uint16_t)port;
	door->to_port_last = (uint16_t)last;
	door->transport = transport_of(kind);
	door->oneway = strcmp(kind, "udp1") == 0;
	if (fields == 12) {
		door->nat = strcmp(nat, "snat") == 0 ? DOOR_SNAT : DOOR_DNAT;
		door->outside.port = (uint16_t)outside_port;
		if (!addr_parse(outside, &door->outside.addr))
			return false;
	}
	return ++item.door_count < MOST;
}

/* primary SESSION tcp|udp CLIENT PORT REMOTE PORT */
static bool read_primary(const char *line)
{
	struct sync_primary *primary = &primaries[item.primary_count];
	struct tracked *wanted = &primary->wanted;
	char session[40], kind[8], client[48], remote[48];
	memset(primary, 0, sizeof *primary);
	if (sscanf(line, "%39s %7s %47s %" SCNu16 " %47s %" SCNu16, session, kind, client,
		    &wanted->client.port, remote, &wanted->remote.port) != 6)
		return false;
	wanted->transport = transport_of(kind);
	primary->is_sound = true;
	return id_parse(session, &primary->session) && addr_parse(client, &wanted->client.addr) &&
		addr_parse(remote, &wanted->remote.addr) && ++item.primary_count < MOST;
}

static bool read_id(const char *line, struct id *ids, size_t *count)
{
	return *count < MOST && id_parse(line, &ids[(*count)++]);
}

/* apply SEQUENCE delta|snapshot */
static bool apply(const char *line)
{
	char kind[16];
	if (sscanf(line, "%" SCNu64 " %15s", &item.sequence, kind) != 2)
		return false;
	item.snapshot = item.snapshot_end = strcmp(kind, "snapshot") == 0;
	item.doors = doors;
	item.removed = removed;
	item.cut = cut;
	item.primaries = primaries;
	item.primaries_removed = unfollowed;
	if (item.snapshot)
		sync_begin(agent);
	int64_t began = clock_mono_us();
	bool done = sync_apply(agent, &item);
	printf("%s %" PRId64 "\n", done ? "applied" : "failed", clock_mono_us() - began);
	memset(&item, 0, sizeof item);
	return true;
}

static void print_endpoint(const struct endpoint *endpoint)
{
	char text[ENDPOINT_TEXT_SIZE];
	endpoint_format(endpoint, text);
	printf(" %s", text[0] ? text : "-");
}

static void print_report(const struct report *report)
{
	static const char *const names[] = {"", "applied", "opened", "closed", "missed", "begin",
		"inventory", "end", "rebuilt", "overrun", "primary-ended"};
	char grant[ID_TEXT_SIZE], session[ID_TEXT_SIZE];
	id_format(&report->grant, grant);
	id_format(&report->session, session);
	printf("%s %s %s %" PRIu64 " %" PRIu64, names[report->kind], grant, session,
		report->sync_sequence, report->count);
	print_endpoint(&report->flow.client);
	print_endpoint(&report->flow.remote);
	print_endpoint(&report->flow.reply_from);
	print_endpoint(&report->flow.reply_to);
	puts("");
	for (size_t i = 0; i < report->failure_count; i++) {
		id_format(&report->failures[i].grant, grant);
		printf("refused %s %s %s\n", grant,
			report->failures[i].external_taken ? "taken" : "else",
			report->failures[i].cause);
	}
}

/* reports KIND MS: runs the agent until one of that kind has come, and tells all there are. */
static bool reports(const char *line)
{
	char kind[16];
	int most_ms;
	if (sscanf(line, "%15s %d", kind, &most_ms) != 2)
		return false;
	enum report_kind wanted = strcmp(kind, "primary-ended") == 0 ? REPORT_PRIMARY_ENDED
		: strcmp(kind, "opened") == 0                        ? REPORT_FLOW_OPENED
		: strcmp(kind, "closed") == 0                        ? REPORT_FLOW_CLOSED
		: strcmp(kind, "missed") == 0                        ? REPORT_USES_MISSED
								     : REPORT_APPLIED;
	int64_t end = clock_mono_us() + (int64_t)most_ms * 1000, now;
	bool seen = false;
	do {
		for (struct report *at = agent->reports.first; at; at = at->next)
			seen |= at->kind == wanted;
		now = clock_mono_us();
		if (!seen && now < end)
			loop_step(loop, (int)((end - now) / 1000) + 1);
	} while (!seen && now < end);
	for (struct report *at = agent->reports.first; at; at = at->next)
		print_report(at);
	reports_acknowledge(&agent->reports, UINT64_MAX);
	return true;
}

static void dump(void)
{
	struct held_door *held = NULL;
	size_t count = 0;
	struct error err;
	if (nft_dump(agent->nft, &held, &count, &err)) {
		printf("error %s\n", err.text);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		char grant[ID_TEXT_SIZE];
		id_format(&held[i].door.grant, grant);
		printf("door %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", grant, held[i].door.uses,
			held[i].counter, held[i].door.timeout_ms,
			held[i].expired              ? "expired"
				: held[i].incomplete ? "incomplete"
						     : "whole");
	}
	free(held);
}

static bool command(char *line)
{
	bool done = true;
	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, "door ", 5) == 0)
		return read_door(line + 5);
	if (strncmp(line, "removed ", 8) == 0)
		return read_id(line + 8, removed, &item.removed_count);
	if (strncmp(line, "cut ", 4) == 0)
		return read_id(line + 4, cut, &item.cut_count);
	if (strncmp(line, "primary ", 8) == 0)
		return read_primary(line + 8);
	if (strncmp(line, "unfollow ", 9) == 0)
		return read_id(line + 9, unfollowed, &item.primaries_removed_count);
	if (strncmp(line, "apply ", 6) == 0)
		done = apply(line + 6);
	else if (strncmp(line, "reports ", 8) == 0)
		done = reports(line + 8);
	else if (strcmp(line, "doors") == 0)
		dump();
	else if (strcmp(line, "renewal") == 0)
		puts(agent_renewal_name(agent));
	else
		done = false;
	puts(".");
	fflush(stdout);
	return done;
}

/* sync_driver CONFIGURATION: of an agent whose server is not there. */
int main(int argc, char **argv)
{
	struct agent_config config = {0};
	struct error err;
	char line[2048];
	if (argc != 2)
		return 2;
	log_init("sync_driver", LOG_LEVEL_INFO);
	log_human();
	if (agent_config_read(argv[1], &config, &err) || loop_new(&loop, &err) ||
		agent_start(loop, &config, "token", &agent, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	while (fgets(line, sizeof line, stdin))
		if (!command(line))
			bad(line);
	agent_stop(agent);
	loop_free(loop);
	agent_config_fini(&config);
	return 0;
}
