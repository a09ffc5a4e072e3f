#include "client/inspectors/ftp/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/ports.h"
#include "client/inspectors/ftp/transparent.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/table.h"

#define ACCEPTS_A_WAKE 32
/* Out of descriptors: a connection that waits would wake us at once, again and again. */
#define ACCEPT_PAUSE_US 200000

struct listener {
	struct proxy *proxy;
	int fd;
	uint16_t port;
	struct loop_io io;
	struct loop_timer pause;
};

/* How many sessions one client address has. */
struct client {
	struct table_node node;
	struct addr addr;
	size_t sessions;
};

struct proxy {
	struct session_host host; /* first */
	struct ports ports;
	struct table clients;
	struct session *sessions;
	struct proxy_counts counts;
	struct listener *listeners;
	size_t listener_count;
};

/* ---- clients ---- */

static bool match(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(&TABLE_OWNER(node, struct client, node)->addr, key, size) == 0;
}

static struct client *find_client(const struct proxy *proxy, const struct addr *addr)
{
	struct table_node *node = table_find(&proxy->clients, addr, sizeof(*addr));

	return node ? TABLE_OWNER(node, struct client, node) : NULL;
}

static struct client *get_client(struct proxy *proxy, const struct addr *addr)
{
	struct client *client = find_client(proxy, addr);

	if (client)
		return client;
	client = calloc(1, sizeof(*client));
	if (!client)
		return NULL;
	client->addr = *addr;
	if (table_insert(&proxy->clients, &client->node, addr, sizeof(*addr)))
		return client;
	free(client);
	return NULL;
}

static void drop_client_if_idle(struct proxy *proxy, struct client *client)
{
	if (client->sessions > 0)
		return;
	table_remove(&proxy->clients, &client->node);
	free(client);
}

/* ---- sessions ---- */

static void on_end(struct session_host *host, struct session *session)
{
	struct proxy *proxy = (struct proxy *)host;
	struct session_links *links = session_links(session);
	struct client *client = find_client(proxy, &session_client(session)->addr);

	*links->link = links->next;
	if (links->next)
		session_links(links->next)->link = links->link;
	proxy->counts.sessions--;
	client->sessions--;
	drop_client_if_idle(proxy, client);
}

static void turn_away(struct proxy *proxy, int fd, const struct endpoint *client, const char *line)
{
	char text[ENDPOINT_TEXT_SIZE];

	endpoint_format(client, text);
	proxy->counts.turned_away++;
	log_warn("-: %s: turned away: %.*s", text, (int)strcspn(line, "\r"), line);
	session_turn_away(fd, line);
}

void proxy_adopt(
	struct proxy *proxy, int fd, const struct endpoint *from, const struct endpoint *server)
{
	const struct ftp_config *config = proxy->host.config;
	struct client *client;
	struct session *session;
	struct session_links *links;

	if (proxy->counts.sessions >= config->max_sessions) {
		turn_away(proxy, fd, from, "421 Postern: too many connections; try again\r\n");
		return;
	}
	client = get_client(proxy, &from->addr);
	if (!client || client->sessions >= config->max_sessions_per_client) {
		turn_away(
			proxy, fd, from, "421 Postern: too many connections from your address\r\n");
		return;
	}
	session = session_new(&proxy->host, fd, from, server);
	if (!session) {
		drop_client_if_idle(proxy, client);
		return;
	}
	client->sessions++;
	proxy->counts.sessions++;
	links = session_links(session);
	links->next = proxy->sessions;
	links->link = &proxy->sessions;
	if (links->next)
		session_links(links->next)->link = &links->next;
	proxy->sessions = session;
}

/* ---- listening ---- */

static void resume(void *arg);

/* False: stop accepting for now. */
static bool accept_one(struct listener *listener)
{
	struct proxy *proxy = listener->proxy;
	struct endpoint client, server;
	int fd = transparent_accept(listener->fd, &client, &server);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_err("accept: %m: raise LimitNOFILE= or lower max_sessions");
			loop_io_remove(proxy->host.loop, &listener->io);
			loop_timer_set(proxy->host.loop, &listener->pause,
				clock_mono_us() + ACCEPT_PAUSE_US, resume, listener);
			return false;
		}
		return errno != EAGAIN;
	}
	proxy->counts.accepted++;
	/* It came to us, not through us: to connect to its "server" would be to call ourselves. */
	if (proxy->host.transparent && server.port == listener->port)
		turn_away(proxy, fd, &client, "421 Postern: connect to the FTP server itself\r\n");
	else
		proxy_adopt(proxy, fd, &client, &server);
	return true;
}

static void on_ready(void *arg, uint32_t events)
{
	(void)events;
	for (int i = 0; i < ACCEPTS_A_WAKE && accept_one(arg); i++)
		;
}

static void resume(void *arg)
{
	struct listener *listener = arg;
	struct loop *loop = listener->proxy->host.loop;

	if (!listener->io.added &&
		loop_io_add(loop, &listener->io, listener->fd, EPOLLIN, on_ready, listener) !=
			STATUS_OK)
		loop_timer_set(loop, &listener->pause, clock_mono_us() + ACCEPT_PAUSE_US, resume,
			listener);
}

static enum status bind_all(struct proxy *proxy, struct error *err)
{
	const struct config_list *list = &proxy->host.config->listen;
	enum status status;

	if (list->count == 0)
		return STATUS_OK;
	proxy->listeners = calloc(list->count, sizeof(*proxy->listeners));
	if (!proxy->listeners)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < list->count; i++) {
		struct listener *listener = &proxy->listeners[i];
		struct endpoint at;

		listener->proxy = proxy;
		status = ftp_config_endpoint(list->items[i], &at, err);
		if (status == STATUS_OK)
			status = transparent_listen(
				&at, proxy->host.transparent, &listener->fd, err);
		if (status != STATUS_OK)
			return status;
		listener->port = at.port;
		proxy->listener_count++;
	}
	return STATUS_OK;
}

/* ---- life ---- */

enum status proxy_new(
	const struct proxy_options *options, struct proxy **ret_proxy, struct error *err)
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	enum status status;

	if (!proxy)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	ports_init(&proxy->ports);
	table_init(&proxy->clients, match);
	proxy->host.loop = options->loop;
	proxy->host.config = options->config;
	proxy->host.ports = &proxy->ports;
	proxy->host.transparent = options->transparent;
	proxy->host.on_end = on_end;
	status = bind_all(proxy, err);
	if (status != STATUS_OK) {
		proxy_free(proxy);
		return status;
	}
	*ret_proxy = proxy;
	return STATUS_OK;
}

void proxy_start(struct proxy *proxy, struct gatekeeper *gatekeeper)
{
	proxy->host.gatekeeper = gatekeeper;
	for (size_t i = 0; i < proxy->listener_count; i++)
		resume(&proxy->listeners[i]);
}

void proxy_close(struct proxy *proxy)
{
	for (size_t i = 0; i < proxy->listener_count; i++) {
		loop_io_remove(proxy->host.loop, &proxy->listeners[i].io);
		loop_timer_clear(proxy->host.loop, &proxy->listeners[i].pause);
		close(proxy->listeners[i].fd);
	}
	proxy->listener_count = 0;
	while (proxy->sessions)
		session_end(proxy->sessions, "postern-ftp stops");
}

void proxy_free(struct proxy *proxy)
{
	if (!proxy)
		return;
	proxy_close(proxy);
	table_fini(&proxy->clients);
	ports_fini(&proxy->ports);
	free(proxy->listeners);
	free(proxy);
}

struct proxy_counts proxy_counts(const struct proxy *proxy)
{
	struct proxy_counts counts = proxy->counts;

	counts.session = proxy->host.counts;
	return counts;
}
