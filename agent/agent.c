/* Design.
 *
 * Here the kernel's news come in. Conntrack's events go to flows.c, which says what the server must
 * hear; when some were lost, a dump takes stock. Changes that other programs make to our table are
 * undone at once, again and again if need be, but with growing pauses, so that two programs that
 * fight over a table do not burn a CPU.
 *
 * Doors are sync.c's, the server is link.c's. Nothing is flushed on start, stop or reconnection
 * (I7), and while the server is away the kernel goes on with what it holds; doors close by their
 * own timeouts (I3). */
#include "agent/agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/log.h"

#define STOCK_DELAY_US 20000 /* one dump for a burst of losses */
#define REBUILD_DELAY_US 100000
#define REBUILD_DELAY_MOST_US 10000000
#define REBUILD_QUIET_US 30000000 /* after so long the next rebuild is at once again */
#define LOOK_DELAY_US 500000 /* others change their rulesets in many small steps */

/* ---- flows ---- */

struct report *agent_report_flow(
	struct agent *agent, enum report_kind kind, const struct id *grant, uint64_t flows)
{
	struct report *report = reports_add(&agent->reports, kind, clock_mono_us());
	if (!report)
		return NULL;
	report->grant = *grant;
	report->is_known = flows == 0 || doors_find(&agent->doors, grant);
	doors_told(&agent->doors, grant, flows);
	link_wake(agent->link);
	return report;
}

static bool tell(struct agent *agent, enum report_kind kind, const struct tracked *flow, bool told)
{
	struct report *report = agent_report_flow(agent, kind, &flow->grant, !told);
	if (report)
		report->flow = *flow;
	return report != NULL;
}

static bool on_opened(void *arg, const struct tracked *flow)
{
	return tell(arg, REPORT_FLOW_OPENED, flow, false);
}

static bool on_inventory(void *arg, const struct tracked *flow, bool told)
{
	return tell(arg, REPORT_INVENTORY_FLOW, flow, told);
}

static bool on_closed(void *arg, const struct tracked *flow, bool told)
{
	return tell(arg, REPORT_FLOW_CLOSED, flow, told);
}

static bool on_read(void *arg, struct tracked *flow)
{
	return conntrack_get(((struct agent *)arg)->conntrack, flow);
}

static const struct flow_hooks flow_hooks = {
	.opened = on_opened, .inventory = on_inventory, .closed = on_closed, .read = on_read};

static void on_track(void *arg, enum track_event event, const struct tracked *flow)
{
	struct agent *agent = arg;
	flows_event(&agent->flows, event, flow, clock_mono_us());
	primaries_event(&agent->primaries, event, flow);
}

struct dumping {
	struct agent *agent;
	bool silent;
};

static void on_dumped(void *arg, enum track_event event, const struct tracked *flow)
{
	struct dumping *dumping = arg;
	(void)event;
	flows_dump_entry(&dumping->agent->flows, flow, dumping->silent, clock_mono_us());
}

/* `silent`: what is found was there before us, and the next inventory tells of it. */
static enum status take_stock(struct agent *agent, bool silent, struct error *err)
{
	struct dumping dumping = {.agent = agent, .silent = silent};
	/* Events before and after, so that what ended meanwhile ends with its figures. */
	agent_drain_events(agent);
	flows_dump_begin(&agent->flows);
	enum status status = conntrack_dump(agent->conntrack, on_dumped, &dumping, err);
	if (status)
		return status;
	agent_drain_events(agent);
	flows_dump_end(&agent->flows);
	return STATUS_OK;
}

enum status agent_take_stock(struct agent *agent, struct error *err)
{
	return take_stock(agent, false, err);
}

static void stock(void *arg)
{
	struct agent *agent = arg;
	struct error err;
	if (take_stock(agent, false, &err)) {
		log_err("%s: trying again", err.text);
		loop_timer_set(agent->loop, &agent->stock, clock_mono_us() + 1000000, stock, agent);
		return;
	}
	struct report *report =
		reports_add(&agent->reports, REPORT_EVENTS_OVERRUN, clock_mono_us());
	if (report) {
		report->count = agent->untold_overruns;
		agent->untold_overruns = 0;
	}
	link_wake(agent->link);
	sessions_check(agent);
	sync_audit_soon(agent);
}

static void on_lost(struct agent *agent)
{
	agent->overruns++;
	agent->untold_overruns++;
	log_warn("conntrack: events were lost (%llu times): taking stock",
		(unsigned long long)agent->overruns);
	if (!agent->stock.armed)
		loop_timer_set(
			agent->loop, &agent->stock, clock_mono_us() + STOCK_DELAY_US, stock, agent);
}

static void on_conntrack(void *arg, uint32_t events)
{
	struct agent *agent = arg;
	(void)events;
	if (conntrack_read(agent->conntrack, on_track, agent) == CONNTRACK_LOST)
		on_lost(agent);
}

void agent_drain_events(struct agent *agent)
{
	enum conntrack_read read;
	do {
		read = conntrack_read(agent->conntrack, on_track, agent);
		if (read == CONNTRACK_LOST)
			on_lost(agent);
	} while (read != CONNTRACK_DRAINED);
}

void agent_inventory(struct agent *agent)
{
	struct error err;
	if (take_stock(agent, false, &err))
		log_err("%s: the inventory tells what was known before", err.text);
	agent->reports.dropped = 0;
	reports_add(&agent->reports, REPORT_INVENTORY_BEGIN, clock_mono_us());
	flows_inventory(&agent->flows);
	reports_add(&agent->reports, REPORT_INVENTORY_END, clock_mono_us());
}

/* ---- others' hands ---- */

static void find_problems(struct agent *agent)
{
	char found[sizeof agent->problems - sizeof agent->kernel_problems];
	char all[sizeof agent->problems];
	nft_find_problems(agent->nft, found, sizeof found - 1);
	snprintf(all, sizeof all, "%s%s%s", agent->kernel_problems,
		agent->kernel_problems[0] && found[0] ? "\n" : "", found);
	if (strcmp(all, agent->problems) == 0)
		return;
	memcpy(agent->problems, all, sizeof all);
	if (all[0] == '\0')
		log_info("datapath: nothing stands in our way any more");
	for (char *line = all; *line;) {
		size_t length = strcspn(line, "\n");
		log_warn("datapath: %.*s", (int)length, line);
		line += length + (line[length] == '\n');
	}
}

static void look(void *arg)
{
	find_problems(arg);
}

static void rebuild(void *arg)
{
	struct agent *agent = arg;
	struct error err;
	enum nft_adoption adoption;
	struct nft_changes changes = agent->changes;
	agent->changes = (struct nft_changes){0};
	agent->rebuilt_us = clock_mono_us();
	if (changes.table) {
		agent->rebuilds++;
		if (nft_install(agent->nft, &adoption, &err)) {
			log_err("datapath: another program changed our table, and it could not be "
				"rebuilt, trying again: %s",
				err.text);
			agent->changes = changes;
			loop_timer_set(agent->loop, &agent->rebuild,
				clock_mono_us() + REBUILD_DELAY_US, rebuild, agent);
			return;
		}
		log_warn("datapath: another program changed our table (%llu times): rebuilt",
			(unsigned long long)agent->rebuilds);
	} else {
		log_warn("datapath: another program changed our doors: looking at them");
	}
	sync_repair(agent);
	if (!changes.table)
		return;
	struct report *report = reports_add(&agent->reports, REPORT_TABLE_REBUILT, clock_mono_us());
	if (report)
		report->count = doors_count(&agent->doors);
	link_wake(agent->link);
}

static void schedule_rebuild(struct agent *agent)
{
	int64_t now = clock_mono_us();
	if (agent->rebuild.armed)
		return;
	if (agent->rebuilt_us == 0 || now - agent->rebuilt_us > REBUILD_QUIET_US)
		agent->rebuild_delay_us = 0;
	if (agent->rebuild_delay_us == 0) {
		agent->rebuild_delay_us = REBUILD_DELAY_US;
		rebuild(agent);
		return;
	}
	loop_timer_set(agent->loop, &agent->rebuild, now + agent->rebuild_delay_us, rebuild, agent);
	if (agent->rebuild_delay_us < REBUILD_DELAY_MOST_US)
		agent->rebuild_delay_us *= 2;
}

static void on_watch(void *arg, uint32_t events)
{
	struct agent *agent = arg;
	struct nft_changes changes;
	(void)events;
	nft_watch(agent->nft, &changes);
	agent->changes.table |= changes.table;
	agent->changes.doors |= changes.doors;
	if (agent->changes.table || agent->changes.doors)
		schedule_rebuild(agent);
	if (changes.others && !agent->look.armed)
		loop_timer_set(
			agent->loop, &agent->look, clock_mono_us() + LOOK_DELAY_US, look, agent);
}

/* ---- start and stop ---- */

static struct nft_config nft_config_of(const struct agent *agent, const struct agent_config *config)
{
	return (struct nft_config){.table = config->table,
		.enforce = config->mode == AGENT_ENFORCE,
		.priority = config->priority,
		.mark = (uint32_t)config->mark,
		.mark_oneway = (uint32_t)config->mark_oneway,
		.renewal = (enum nft_renewal)config->renewal,
		.boot_id = agent->boot_id};
}

static const char *adoption_name(enum nft_adoption adoption)
{
	switch (adoption) {
	case NFT_CREATED:
		return "created";
	case NFT_ADOPTED:
		return "adopted";
	case NFT_REPLACED:
		return "replaced";
	}
	return "";
}

const char *agent_renewal_name(const struct agent *agent)
{
	return nft_renewal(agent->nft) == NFT_RENEW_IN_PLACE ? "in-place" : "replace";
}

static enum status open_kernel(struct agent *agent, struct error *err)
{
	const struct agent_config *config = agent->config;
	const struct nft_config nft = nft_config_of(agent, config);
	const struct conntrack_config conntrack = {.mark = nft.mark,
		.mark_session = (uint32_t)config->mark_session,
		.buffer_bytes = config->event_buffer,
		.buffer_most_bytes = config->max_event_buffer};
	enum nft_adoption adoption;
	/* Before the first door can open: what counts, and who listens. */
	conntrack_prepare(agent->kernel_problems, sizeof agent->kernel_problems);
	enum status status = nft_open(&nft, &agent->nft, err);
	if (!status)
		status = conntrack_open(&conntrack, &agent->conntrack, err);
	if (!status)
		status = nft_install(agent->nft, &adoption, err);
	if (status)
		return status;
	log_info("datapath: table inet %s %s, mode %s, renewal %s", config->table,
		adoption_name(adoption), nft.enforce ? "enforce" : "overlay",
		agent_renewal_name(agent));
	find_problems(agent);
	return take_stock(agent, true, err);
}

enum status agent_start(struct loop *loop, const struct agent_config *config, const char *token,
	struct agent **ret_agent, struct error *err)
{
	struct agent *agent = calloc(1, sizeof *agent);
	struct id instance = id_new();
	if (!agent)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	agent->loop = loop;
	agent->config = config;
	doors_init(&agent->doors);
	flows_init(&agent->flows, &flow_hooks, agent);
	sessions_init(agent);
	reports_init(&agent->reports, config->max_reports);
	id_format(&instance, agent->instance);
	enum status status = host_boot_id(agent->boot_id, err);
	if (!status)
		status = open_kernel(agent, err);
	if (!status &&
		loop_io_add(loop, &agent->conntrack_io, conntrack_fd(agent->conntrack), EPOLLIN,
			on_conntrack, agent))
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "cannot watch conntrack");
	if (!status &&
		loop_io_add(
			loop, &agent->watch_io, nft_watch_fd(agent->nft), EPOLLIN, on_watch, agent))
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "cannot watch nftables");
	if (!status)
		status = link_start(agent, config, token, &agent->link, err);
	if (status) {
		agent_stop(agent);
		return status;
	}
	*ret_agent = agent;
	return STATUS_OK;
}

void agent_stop(struct agent *agent)
{
	if (!agent)
		return;
	link_stop(agent->link);
	agent->link = NULL;
	sync_stop(agent);
	sessions_fini(agent);
	loop_timer_clear(agent->loop, &agent->stock);
	loop_timer_clear(agent->loop, &agent->rebuild);
	loop_timer_clear(agent->loop, &agent->look);
	loop_io_remove(agent->loop, &agent->conntrack_io);
	loop_io_remove(agent->loop, &agent->watch_io);
	conntrack_close(agent->conntrack);
	nft_close(agent->nft);
	doors_fini(&agent->doors);
	flows_fini(&agent->flows);
	reports_fini(&agent->reports);
	free(agent);
}

static bool needs_restart(const struct agent_config *a, const struct agent_config *b)
{
	return a->mark != b->mark || a->mark_oneway != b->mark_oneway ||
		a->mark_session != b->mark_session || a->renewal != b->renewal ||
		strcmp(a->table, b->table) != 0 || a->event_buffer != b->event_buffer ||
		a->max_event_buffer != b->max_event_buffer || a->max_reports != b->max_reports;
}

enum status agent_reload(struct agent *agent, const struct agent_config *config, const char *token,
	struct error *err)
{
	struct link *link = NULL;
	struct nft_config nft = nft_config_of(agent, config);
	enum nft_adoption adoption;
	if (needs_restart(agent->config, config))
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"table, marks, renewal, buffers and max_reports change by a restart (doors "
			"and flows stay)");
	enum status status = link_start(agent, config, token, &link, err);
	if (status)
		return status;
	nft_configure(agent->nft, &nft);
	status = nft_install(agent->nft, &adoption, err);
	if (status) {
		nft = nft_config_of(agent, agent->config);
		nft_configure(agent->nft, &nft);
		link_stop(link);
		return status;
	}
	struct link *old = agent->link;
	agent->config = config;
	agent->link = link;
	link_stop(old);
	log_info("reload: done, mode %s", nft.enforce ? "enforce" : "overlay");
	find_problems(agent);
	return STATUS_OK;
}
