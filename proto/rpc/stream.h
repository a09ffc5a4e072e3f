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
	const char *cert_file, *key_file; /* server */
	const char *client_ca_file; /* server: NULL = clients need no certificate */
	const char *ca_file; /* client */
	const char *server_name; /* client: NULL = host of the URL */
};

/* Sets who hears of completions; call before the first receive or send. */
void stream_own(struct stream *stream, stream_done_cb received, stream_done_cb sent, void *arg);
/* Receives at least one byte, at most `size`, to the end of stream_input(). At most one receive at
 * a time; the input buffer must not be touched until it completed. */
enum status stream_receive(struct stream *stream, size_t size);
struct buffer *stream_input(struct stream *stream);
/* Takes the content of `bytes` (leaving an empty buffer with the same cap) and sends all of it. One
 * at a time. */
void stream_send(struct stream *stream, struct buffer *bytes);
size_t stream_sending(const struct stream *stream); /* bytes not yet taken by the transport */
/* Closes; no callback follows. Memory goes when nng has let go of it, on the loop. Accepts NULL. */
void stream_free(struct stream *stream);

/* `accepted` is called on the loop with a new stream that the callee owns. */
typedef void (*stream_accept_cb)(void *arg, struct stream *stream);
enum status stream_listen(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_accept_cb accepted, void *arg, struct stream_listener **ret_listener,
	struct error *err);
const char *stream_listener_url(const struct stream_listener *listener); /* with the real port */
/* Certificate and key for connections accepted from now on. */
enum status stream_listener_reload(
	struct stream_listener *listener, const struct stream_tls *tls, struct error *err);
void stream_listener_free(struct stream_listener *listener); /* accepts NULL */

/* `done` gets the stream, or NULL and the error; the dialer is then spent (still to be freed). */
typedef void (*stream_dial_cb)(void *arg, struct stream *stream, const struct error *err);
enum status stream_dial(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_dial_cb done, void *arg, struct stream_dialer **ret_dialer, struct error *err);
void stream_dialer_free(struct stream_dialer *dialer); /* cancels; accepts NULL */

#endif
