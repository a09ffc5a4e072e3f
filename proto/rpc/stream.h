/* Byte streams over nng: dial, listen, send, receive; completions arrive on the loop. The only
 * module that knows nng. */
#ifndef POSTERN_PROTO_RPC_STREAM_H
#define POSTERN_PROTO_RPC_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buffer.h"
#include "common/error.h"

struct loop;
struct stream;
struct stream_listener;
struct stream_dialer;

/* Streams that nng still holds; their owner waits for `alive` to become 0 before it goes. */
struct stream_group {
	struct loop *loop;
	size_t alive;
};

/* Called on the loop. err->status is 0 on success; on failure the stream is useless and should be
 * freed. */
typedef void (*stream_done_cb)(void *arg, const struct error *err);

struct stream_tls {
	const char *cert_file, *key_file; /* one's own; a client may have none */
	const char *client_ca_file; /* server: NULL = clients need no certificate */
	const char *ca_file; /* client */
	const char *server_name; /* client: NULL = host of the URL */
};

/* Sets who hears of completions, and begins to receive; call once, before anything else. */
void stream_own(struct stream *stream, stream_done_cb received, stream_done_cb sent, void *arg);
/* Asks for the next bytes: `received` is called once, later, with them at the end of
 * stream_input(). */
void stream_receive(struct stream *stream);
struct buffer *stream_input(struct stream *stream);
/* Takes the content of `bytes` (leaving an empty buffer with the same cap) and sends all of it. One
 * at a time. */
void stream_send(struct stream *stream, struct buffer *bytes);
size_t stream_sending(const struct stream *stream); /* bytes not yet taken by the transport */
/* Closes; no callback follows. Memory goes when nng has let go of it, on the loop. Accepts NULL. */
void stream_free(struct stream *stream);

/* `accepted` is called on the loop with a new stream that the callee owns. Hosts "*" and "[::]"
 * stand for every address, IPv4 and IPv6. An ipc socket file that a dead server left behind is
 * replaced, anything else in its place is not. */
typedef void (*stream_accept_cb)(void *arg, struct stream *stream);
enum status stream_listen(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_accept_cb accepted, void *arg, struct stream_listener **ret_listener,
	struct error *err);
const char *stream_listener_url(const struct stream_listener *listener); /* with the real port */
/* Certificate and key, read again, for connections accepted from now on; on failure nothing
 * changes. */
enum status stream_listener_reload(
	struct stream_listener *listener, const struct stream_tls *tls, struct error *err);
void stream_listener_free(struct stream_listener *listener); /* accepts NULL */

/* `done` gets the stream, or NULL and the error; the dialer is then spent (still to be freed). */
typedef void (*stream_dial_cb)(void *arg, struct stream *stream, const struct error *err);
enum status stream_dial(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_dial_cb done, void *arg, struct stream_dialer **ret_dialer, struct error *err);
void stream_dialer_free(struct stream_dialer *dialer); /* cancels; accepts NULL */

#endif
