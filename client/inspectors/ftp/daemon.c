/* Order at the start: what needs privileges (descriptors, listening sockets), then privileges are
 * dropped, then threads begin (they inherit what is left), then connections are accepted. At the
 * end the reverse: sessions first, so that their ends still reach the policy server. */
#include "client/inspectors/ftp/daemon.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/permission.h"
#include "client/inspectors/ftp/privilege.h"
#include "client/inspectors/ftp/proxy.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"

#define LEAVE_MS 2000
#define OTHER_FILES 128 /* descriptors that are not sessions' */

struct daemon {
	const char *path;
	struct ftp_config *config;
	struct loop *loop;
	struct proxy *proxy;
	struct permission *permission;
	struct loop_timer status_timer;
	bool linked;
	uint64_t established, closed;
};

/* ---- what people can read ---- */

static void format_counts(const struct daemon *daemon, char *text, size_t size)
{
	struct proxy_counts counts = proxy_counts(daemon->proxy);
	struct permission_counts asked = permission_counts(daemon->permission);
	const struct session_counts *s = &counts.session;

	snprintf(text, size,
		"policy server %s; sessions %zu (accepted %" PRIu64 ", turned away %" PRIu64
		", unreachable %" PRIu64 "); passive replies %" PRIu64 ", PORT and EPRT %" PRIu64
		": granted %" PRIu64 ", denied %" PRIu64 ", failed %" PRIu64 ", guarded %" PRIu64
		", translated %" PRIu64 "; unsolicited %" PRIu64 "; LPRT refused %" PRIu64
		", AUTH refused %" PRIu64 "; data connections made %" PRIu64 ", ended %" PRIu64
		"; control bytes %" PRIu64 " up, %" PRIu64 " down; lost notes %" PRIu64
		", lost closes %" PRIu64,
		daemon->linked ? "connected" : "NOT connected", counts.sessions, counts.accepted,
		counts.turned_away, s->connect_failures, s->dialogue.passive_replies,
		s->dialogue.active_commands, s->granted, s->denied, s->failed, s->guarded,
		s->dialogue.translated, s->dialogue.unsolicited, s->dialogue.long_refused,
		s->dialogue.auth_refused, daemon->established, daemon->closed, s->bytes_up,
		s->bytes_down, asked.events_dropped, asked.closes_dropped);
}

static void on_status(void *arg)
{
	struct daemon *daemon = arg;
	char text[768];

	format_counts(daemon, text, sizeof(text));
	sd_notifyf(0, "STATUS=%s", text);
	loop_timer_set(daemon->loop, &daemon->status_timer,
		clock_mono_us() + (int64_t)daemon->config->status_interval_ms * 1000, on_status,
		daemon);
}

static void on_counts(void *arg)
{
	char text[768];

	format_counts(arg, text, sizeof(text));
	log_info("counters: %s", text);
}

static void on_link(void *arg, const struct error *err)
{
	struct daemon *daemon = arg;

	daemon->linked = err->status == STATUS_OK;
	if (daemon->linked)
		log_info("policy server: connected");
	else
		log_warn("policy server: not connected, transfers will be refused: %s: %s",
			status_name(err->status), err->text);
	on_status(daemon);
}

static void on_event(void *arg, const struct permission_event *event)
{
	struct daemon *daemon = arg;

	if (!event->closed) {
		daemon->established++;
		log_info("%s: data connection %s>%s made: grant %s", event->session, event->client,
			event->remote, event->grant);
		return;
	}
	daemon->closed++;
	if (event->accounted)
		log_info("%s: data connection %s>%s ended: grant %s: %" PRIu64
			 " bytes sent, %" PRIu64 " received in %" PRIu64 " ms",
			event->session, event->client, event->remote, event->grant,
			event->bytes_sent, event->bytes_received, event->duration_us / 1000);
	else
		log_info("%s: data connection %s>%s ended unseen: grant %s", event->session,
			event->client, event->remote, event->grant);
}

/* ---- signals ---- */

static void on_stop(void *arg)
{
	struct daemon *daemon = arg;

	loop_stop(daemon->loop);
}

static void on_reload(void *arg)
{
	struct daemon *daemon = arg;
	struct ftp_config config;
	struct error err;

	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_us());
	if (ftp_config_read(daemon->path, &config, &err) != STATUS_OK) {
		log_err("reload: nothing was changed: %s", err.text);
	} else {
		if (!ftp_config_adopt(daemon->config, &config))
			log_warn("reload: server, token_file, ca_file, server_name, gateway, "
				 "protocol and listen take effect at the next start only");
		ftp_config_fini(&config);
		log_info("reload: %s is in use", daemon->path);
	}
	sd_notify(0, "READY=1");
}

static enum status watch_signals(struct daemon *daemon, struct error *err)
{
	static const struct {
		int signo;
		loop_cb cb;
	} signals[] = {
		{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGHUP, on_reload}, {SIGUSR1, on_counts}};
	enum status status = STATUS_OK;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && status == STATUS_OK; i++)
		status = loop_signal(daemon->loop, signals[i].signo, signals[i].cb, daemon, err);
	return status;
}

/* ---- life ---- */

static enum status start(struct daemon *daemon, struct error *err)
{
	const struct permission_options permission = {
		.config = daemon->config,
		.arg = daemon,
		.on_event = on_event,
		.on_link = on_link,
		.loop = daemon->loop,
	};
	const struct proxy_options proxy = {daemon->loop, daemon->config, true};
	size_t wanted = 2 * daemon->config->max_sessions + OTHER_FILES;
	size_t files = privilege_raise_files(wanted);
	enum status status = watch_signals(daemon, err);

	if (status == STATUS_OK)
		status = proxy_new(&proxy, &daemon->proxy, err);
	if (status == STATUS_OK)
		status = privilege_drop(err);
	if (status == STATUS_OK)
		status = permission_new(&permission, &daemon->permission, err);
	if (status != STATUS_OK)
		return status;
	if (files < wanted)
		log_warn("limits: %zu open files are too few for max_sessions = %" PRIu64
			 ": raise LimitNOFILE= to %zu",
			files, daemon->config->max_sessions, wanted);
	proxy_start(daemon->proxy, permission_gatekeeper(daemon->permission));
	return STATUS_OK;
}

enum status daemon_run(const char *path, struct ftp_config *config, struct error *err)
{
	struct daemon daemon = {.path = path, .config = config};
	enum status status = loop_new(&daemon.loop, err);

	if (status != STATUS_OK)
		return status;
	status = start(&daemon, err);
	if (status == STATUS_OK) {
		for (size_t i = 0; i < config->listen.count; i++)
			log_info("listening: %s", config->listen.items[i]);
		sd_notify(0, "READY=1");
		on_status(&daemon);
		loop_run(daemon.loop);
		sd_notify(0, "STOPPING=1");
		log_info("stopping");
		proxy_close(daemon.proxy);
	}
	loop_timer_clear(daemon.loop, &daemon.status_timer);
	permission_free(daemon.permission, LEAVE_MS);
	loop_timer_clear(daemon.loop, &daemon.status_timer);
	proxy_free(daemon.proxy);
	loop_free(daemon.loop);
	return status;
}
